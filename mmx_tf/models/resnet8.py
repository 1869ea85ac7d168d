"""ResNet-8 of MLPerf Tiny (Banbury et al., 2021): image classification on 32x32 pixels.

A stem and three residual blocks of two 3x3 convolutions, as in the ResNets for CIFAR-10 (He et al., CVPR
2016), with 16, 32 and 64 channels. Where the shape changes, the input goes through a 1x1 convolution, which
here has no batch norm. Layers, biases and padding are those of mlcommons/tiny (`resnet_v1_eembc`), whose
weights fit one by one in their order; names are those of `mmx_tf.models.resnet18`. Three things differ:
images are in [-1, 1] and not raw pixels, the network gives logits, and the mean is taken of whole images of
any size. There is no other variant for small images: the reduction is by 4 for all.

    >>> model = build(input_shape=(32, 32, 3), num_classes=10)
    >>> model.count_params()
    78666
"""

import tf_keras as keras

from mmx_tf.models import published_weights, rules

# Channels of the three blocks at width 1; the stem has those of the first.
STAGES = (16, 32, 64)


def build(
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    width: float = 1.0,
    classifier: bool = True,
    variant: str = "auto",
) -> keras.Model:
    """Build ResNet-8 with random weights; see `mmx_tf.models.build` for arguments and errors."""
    rules.check(
        "resnet8", input_shape=input_shape, num_classes=num_classes, width=width, classifier=classifier
    )
    rules.check_one_variant("resnet8", variant)
    stages = [max(1, round(filters * width)) for filters in STAGES]

    inputs = keras.Input(input_shape, name="image")
    x = keras.layers.ReLU(name="conv1_relu")(_norm(_conv(inputs, stages[0], 3, name="conv1"), name="conv1"))
    for stage, filters in enumerate(stages, start=2):
        x = _block(x, filters, stride=2 if stage > 2 else 1, name=f"conv{stage}_block1")
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = keras.layers.Dense(num_classes, kernel_initializer="he_normal", name="predictions")(x)
    return keras.Model(inputs, x, name="resnet8")


def load_imagenet_weights(model: keras.Model) -> None:
    """Refuses (ModelError): Keras publishes no weights of this network."""
    published_weights.refuse("ResNet-8")


def _block(x, filters: int, *, stride: int, name: str):
    shortcut = x
    x = _norm(_conv(x, filters, 3, stride=stride, name=f"{name}_1"), name=f"{name}_1")
    x = keras.layers.ReLU(name=f"{name}_1_relu")(x)
    x = _norm(_conv(x, filters, 3, name=f"{name}_2"), name=f"{name}_2")
    if stride > 1:
        shortcut = _conv(shortcut, filters, 1, stride=stride, name=f"{name}_0")
    return keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([shortcut, x]))


def _conv(x, filters: int, size: int, *, name: str, stride: int = 1):
    return keras.layers.Conv2D(
        filters, size, strides=stride, padding="same", kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)


def _norm(x, *, name: str):
    # The original's momentum of 0.99 takes more steps to settle than a short fine-tuning has.
    return keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
