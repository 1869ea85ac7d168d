"""ResNet-18 (He et al., CVPR 2016) for 32x32 images, as a functional tf_keras network.

The usual variant for small images: a 3x3 stem without pooling, then four stages of two basic blocks. A block
is Conv-BN-ReLU, Conv-BN, the sum with its input, ReLU; where the shape changes, the input goes through a 1x1
convolution with batch norm. The published width is 64; benchmarks take 16.

    >>> network = build(input_shape=(32, 32, 3), num_classes=10, width=16)
"""

import tf_keras as keras


def build(*, input_shape: tuple[int, int, int], num_classes: int, width: int = 64) -> keras.Model:
    """Builds the network with random weights.

    Args:
      input_shape: (height, width, channels) of the images.
      num_classes: number of logits.
      width: channels of the first stage; the others have 2, 4 and 8 times as many.
    """
    inputs = keras.Input(input_shape, name="image")
    x = keras.layers.ReLU(name="stem_relu")(_conv_norm(inputs, width, 3, name="stem"))
    for stage in range(4):
        for index in range(2):
            stride = 2 if stage and not index else 1
            x = _block(x, width << stage, stride=stride, name=f"stage{stage + 1}_block{index + 1}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes, name="predictions")(x), name="resnet18")


def _block(x, filters: int, *, stride: int, name: str):
    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = _conv_norm(x, filters, 1, stride=stride, name=f"{name}_shortcut")
    x = keras.layers.ReLU(name=f"{name}_relu1")(
        _conv_norm(x, filters, 3, stride=stride, name=f"{name}_conv1")
    )
    x = _conv_norm(x, filters, 3, name=f"{name}_conv2")
    return keras.layers.ReLU(name=f"{name}_relu2")(keras.layers.Add(name=f"{name}_add")([x, shortcut]))


def _conv_norm(x, filters: int, size: int, *, name: str, stride: int = 1):
    x = keras.layers.Conv2D(
        filters, size, strides=stride, padding="same", use_bias=False, name=name,
        kernel_initializer="he_normal",
    )(x)  # fmt: skip
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
