"""ResNet-18 (He et al., CVPR 2016): residual blocks of two 3x3 convolutions.

A block is Conv-BN-ReLU, Conv-BN, the sum with its input, ReLU. Where the shape changes, the input goes
through a 1x1 convolution with batch norm; like every weighted layer it gets an activation quantizer of its
own when the network is augmented. Structure and zero padding are those of torchvision's resnet18, layer names
follow `tf_keras.applications.ResNet50` (`conv1_conv`, `conv2_block1_1_conv`, ..., `conv3_block1_0_conv` for a
1x1 convolution). Images below 96 pixels get the *small-image variant*, as is usual for CIFAR-sized images: a
3x3 stem that keeps the resolution and no max pooling, an overall reduction by 8 in place of 32.

    >>> model = build(input_shape=(224, 224, 3), num_classes=1000)
    >>> model.count_params()
    11699112
"""

import tf_keras as keras

from mmx_tf.models import published_weights, rules

# Channels of the four stages at width 1, each of two blocks: Table 1 of the ResNet paper.
STAGES = (64, 128, 256, 512)
BLOCKS_PER_STAGE = 2


def build(
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    width: float = 1.0,
    classifier: bool = True,
    variant: str = "auto",
) -> keras.Model:
    """Build ResNet-18 with random weights; see `mmx_tf.models.build` for arguments and errors."""
    rules.check(
        "resnet18", input_shape=input_shape, num_classes=num_classes, width=width, classifier=classifier
    )
    small = rules.is_small(input_shape, variant)
    stages = [max(1, round(filters * width)) for filters in STAGES]

    inputs = keras.Input(input_shape, name="image")
    x = _conv_norm(inputs, stages[0], 3 if small else 7, stride=1 if small else 2, name="conv1")
    x = keras.layers.ReLU(name="conv1_relu")(x)
    if not small:
        x = keras.layers.ZeroPadding2D(1, name="pool1_pad")(x)
        x = keras.layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, filters in enumerate(stages, start=2):
        for block in range(1, BLOCKS_PER_STAGE + 1):
            stride = 2 if stage > 2 and block == 1 else 1
            x = _block(x, filters, stride=stride, name=f"conv{stage}_block{block}")
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes, name="predictions")(x), name="resnet18")


def load_imagenet_weights(model: keras.Model) -> None:
    """Refuses (ModelError): Keras publishes no weights of this network."""
    published_weights.refuse("ResNet-18")


def _block(x, filters: int, *, stride: int, name: str):
    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = _conv_norm(x, filters, 1, stride=stride, name=f"{name}_0")
    x = _conv_norm(x, filters, 3, stride=stride, name=f"{name}_1")
    x = keras.layers.ReLU(name=f"{name}_1_relu")(x)
    x = _conv_norm(x, filters, 3, stride=1, name=f"{name}_2")
    return keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([shortcut, x]))


def _conv_norm(x, filters: int, size: int, *, stride: int, name: str):
    """Convolution and batch norm; a strided filter pads alike on all sides, which "same" does not."""
    padded = stride > 1 and size > 1
    if padded:
        x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    x = keras.layers.Conv2D(
        filters, size, strides=stride, padding="valid" if padded else "same", use_bias=False,
        kernel_initializer="he_normal", name=f"{name}_conv",
    )(x)  # fmt: skip
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
