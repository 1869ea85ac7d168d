"""MobileNet-v2 (Sandler et al., CVPR 2018): inverted residual blocks with linear bottlenecks.

A block expands its input sixfold with a 1x1 convolution, filters it with a 3x3 depthwise convolution,
projects it back to a narrow tensor without an activation, and adds its input where the shapes allow. Layer
names and structure are those of `tf_keras.applications.MobileNetV2`, so weights load by name in both
directions. Two things differ: the last layer gives logits, and images below 96 pixels get the *small-image
variant*, whose first two reductions (`Conv1` and `block_1`) keep the resolution, as is usual for CIFAR-sized
images: an overall reduction by 8 in place of 32.

    >>> build(input_shape=(32, 32, 3), num_classes=10, width=0.5).output_shape
    (None, 10)
"""

import tf_keras as keras

from mmx_tf.models import published_weights, rules
from mmx_tf.models.rules import batch_norm_momentum, make_divisible, stride_two_padding

# (filters at width 1, stride, expansion) of the 17 blocks: Table 2 of the MobileNet-v2 paper.
BLOCKS = (
    ((16, 1, 1),)
    + ((24, 2, 6), (24, 1, 6))
    + ((32, 2, 6), (32, 1, 6), (32, 1, 6))
    + ((64, 2, 6), (64, 1, 6), (64, 1, 6), (64, 1, 6))
    + ((96, 1, 6), (96, 1, 6), (96, 1, 6))
    + ((160, 2, 6), (160, 1, 6), (160, 1, 6))
    + ((320, 1, 6),)
)
IMAGENET_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
IMAGENET_SIZES = (96, 128, 160, 192, 224)


def _channels(width: float) -> tuple[int, ...]:
    """Output channels of `Conv1`, of the 17 blocks and of `Conv_1` at this width multiplier."""
    blocks = tuple(make_divisible(int(filters * width)) for filters, _, _ in BLOCKS)
    return (make_divisible(32 * width), *blocks, make_divisible(1280 * max(width, 1.0)))


def _norm_relu(x, *, norm: str, relu: str | None, momentum: float):
    """Batch norm called `norm`, then a ReLU6 called `relu` unless that is None."""
    x = keras.layers.BatchNormalization(epsilon=1e-3, momentum=momentum, name=norm)(x)
    return x if relu is None else keras.layers.ReLU(6.0, name=relu)(x)


def _block(x, *, prefix: str, filters: int, stride: int, expansion: int, padded: bool, momentum: float):
    """One inverted residual block; `padded` puts its zero padding into a layer of its own."""
    inputs, in_channels = x, x.shape[-1]
    if expansion > 1:
        x = keras.layers.Conv2D(
            expansion * in_channels, 1, padding="same", use_bias=False, name=prefix + "expand"
        )(x)
        x = _norm_relu(x, norm=prefix + "expand_BN", relu=prefix + "expand_relu", momentum=momentum)
    if padded:
        padding = stride_two_padding(x) if stride == 2 else ((1, 1), (1, 1))
        x = keras.layers.ZeroPadding2D(padding, name=prefix + "pad")(x)
    x = keras.layers.DepthwiseConv2D(
        3, strides=stride, padding="valid" if padded else "same", use_bias=False, name=prefix + "depthwise"
    )(x)
    x = _norm_relu(x, norm=prefix + "depthwise_BN", relu=prefix + "depthwise_relu", momentum=momentum)
    x = keras.layers.Conv2D(filters, 1, padding="same", use_bias=False, name=prefix + "project")(x)
    x = _norm_relu(x, norm=prefix + "project_BN", relu=None, momentum=momentum)
    if stride == 1 and not padded and filters == in_channels:
        x = keras.layers.Add(name=prefix + "add")([inputs, x])
    return x


def build(
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    width: float = 1.0,
    classifier: bool = True,
    variant: str = "auto",
) -> keras.Model:
    """Build MobileNet-v2 with random weights; see `mmx_tf.models.build` for arguments and errors."""
    rules.check(
        "mobilenet_v2", input_shape=input_shape, num_classes=num_classes, width=width, classifier=classifier
    )
    small = rules.is_small(input_shape, variant)
    momentum = batch_norm_momentum(small=rules.is_small(input_shape))
    stem, *blocks, head = _channels(width)

    inputs = keras.Input(input_shape, name="image")
    x = keras.layers.Conv2D(stem, 3, strides=1 if small else 2, padding="same", use_bias=False, name="Conv1")(
        inputs
    )
    x = _norm_relu(x, norm="bn_Conv1", relu="Conv1_relu", momentum=momentum)
    for index, (filters, (_, stride, expansion)) in enumerate(zip(blocks, BLOCKS, strict=True)):
        x = _block(
            x,
            prefix=f"block_{index}_" if index else "expanded_conv_",
            filters=filters,
            stride=1 if small and index == 1 else stride,
            expansion=expansion,
            padded=stride == 2,
            momentum=momentum,
        )
    x = keras.layers.Conv2D(head, 1, use_bias=False, name="Conv_1")(x)
    x = _norm_relu(x, norm="Conv_1_bn", relu="out_relu", momentum=momentum)
    x = keras.layers.GlobalAveragePooling2D(name="global_average_pooling2d")(x)
    x = keras.layers.Dense(num_classes, name="predictions")(x)
    return keras.Model(inputs, x, name="mobilenet_v2")


def load_imagenet_weights(model: keras.Model) -> None:
    """Fill a MobileNet-v2 of `build` with Keras's ImageNet weights, from ~/.keras/models or downloaded.

    Raises:
        ModelError: not 1000 classes, not a colour image of one of `IMAGENET_SIZES`, not one of
            `IMAGENET_WIDTHS`, or the weights are neither on this machine nor to be downloaded.
    """
    published_weights.check_shapes(model, sizes=IMAGENET_SIZES)
    names = ["Conv1", *(f"block_{i}_project" if i else "expanded_conv_project" for i in range(17)), "Conv_1"]
    channels = tuple(model.get_layer(name).filters for name in names)
    width = published_weights.published_width("MobileNet-v2", channels, _channels, IMAGENET_WIDTHS)
    shape = model.input_shape[1:]
    published_weights.load(
        model,
        f"MobileNet-v2 (width {width}, {shape[0]} pixels)",
        lambda: keras.applications.MobileNetV2(
            input_shape=shape, alpha=width, weights="imagenet", classifier_activation=None
        ),
    )
