"""MobileNet-v2 (Sandler et al., CVPR 2018): inverted residual blocks with linear bottlenecks.

A block expands its input sixfold with a 1x1 convolution, filters it with a 3x3 depthwise convolution,
projects it back to a narrow tensor without an activation, and adds its input where the shapes allow. Layer
names and structure are those of `tf_keras.applications.MobileNetV2`, so weights load by name in both
directions. Two things differ: the last layer gives logits, and images below 96 pixels get the *small-image
variant*, whose first two reductions (`Conv1` and `block_1`) keep the resolution, as is usual for CIFAR-sized
images: an overall reduction by 8 in place of 32.

    >>> model = build(input_shape=(32, 32, 3), num_classes=10, width=0.5)
    >>> model(tf.zeros([1, 32, 32, 3])).shape
    TensorShape([1, 10])
"""

import tf_keras as keras

from mmx_tf.models.errors import ModelError

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
SMALL_IMAGE_BELOW = 96
MIN_IMAGE_SIZE = 16
IMAGENET_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
IMAGENET_SIZES = (96, 128, 160, 192, 224)

# The momentum of Keras applications takes thousands of steps to settle; small images often train for fewer.
_MOMENTUM = 0.999
_SMALL_IMAGE_MOMENTUM = 0.9


def _make_divisible(filters: float) -> int:
    """The multiple of 8 nearest to `filters`, at least 8 and not more than 10% below it."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded


def _channels(width: float) -> tuple[int, ...]:
    """Output channels of `Conv1`, of the 17 blocks and of `Conv_1` at this width multiplier."""
    blocks = tuple(_make_divisible(int(filters * width)) for filters, _, _ in BLOCKS)
    return (_make_divisible(32 * width), *blocks, _make_divisible(1280 * max(width, 1.0)))


def _norm_relu(x, *, norm: str, relu: str | None, momentum: float):
    """Batch norm called `norm`, then a ReLU6 called `relu` unless that is None."""
    x = keras.layers.BatchNormalization(epsilon=1e-3, momentum=momentum, name=norm)(x)
    return x if relu is None else keras.layers.ReLU(6.0, name=relu)(x)


def _same_as_stride_two(x) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros before and after each axis that align a valid 3x3 stride-2 filter as Keras applications do."""
    return tuple((size % 2, 1) for size in x.shape[1:3])


def _block(x, *, prefix: str, filters: int, stride: int, expansion: int, padded: bool, momentum: float):
    """One inverted residual block; `padded` puts its zero padding into a layer of its own."""
    inputs, in_channels = x, x.shape[-1]
    if expansion > 1:
        x = keras.layers.Conv2D(
            expansion * in_channels, 1, padding="same", use_bias=False, name=prefix + "expand"
        )(x)
        x = _norm_relu(x, norm=prefix + "expand_BN", relu=prefix + "expand_relu", momentum=momentum)
    if padded:
        padding = _same_as_stride_two(x) if stride == 2 else ((1, 1), (1, 1))
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


def build(*, input_shape: tuple[int, int, int], num_classes: int, width: float = 1.0) -> keras.Model:
    """Build MobileNet-v2 with random weights; see `mmx_tf.models.build` for arguments and errors."""
    input_shape = tuple(input_shape)
    if len(input_shape) != 3 or min(input_shape[:2]) < MIN_IMAGE_SIZE or input_shape[2] < 1:
        raise ModelError(
            f"mobilenet_v2 cannot take images of shape {input_shape}; it needs (height, width, channels) "
            f"with height and width of at least {MIN_IMAGE_SIZE} pixels: raise --image_size."
        )
    if num_classes < 2:
        raise ModelError(f"A classifier needs at least 2 classes, not num_classes={num_classes}.")
    if not width > 0:
        raise ModelError(f"The width multiplier must be above 0 (1.0 is the published network), not {width}.")

    small = min(input_shape[:2]) < SMALL_IMAGE_BELOW
    momentum = _SMALL_IMAGE_MOMENTUM if small else _MOMENTUM
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


def _published_width(model: keras.Model) -> float:
    """The width multiplier, among those with published weights, that gives exactly this model's channels."""
    names = ["Conv1", *(f"block_{i}_project" if i else "expanded_conv_project" for i in range(17)), "Conv_1"]
    channels = tuple(model.get_layer(name).filters for name in names)
    for width in IMAGENET_WIDTHS:
        if _channels(width) == channels:
            return width
    raise ModelError(
        f"Keras publishes ImageNet weights for the widths {', '.join(map(str, IMAGENET_WIDTHS))}; this "
        f"MobileNet-v2 (first convolution of {channels[0]} channels) has none of them. Choose such a --width "
        "or train the float network with --float_epochs."
    )


def load_imagenet_weights(model: keras.Model) -> None:
    """Fill a MobileNet-v2 of `build` with Keras's ImageNet weights, from ~/.keras/models or downloaded.

    Raises:
        ModelError: not 1000 classes, not a colour image of one of `IMAGENET_SIZES`, not one of
            `IMAGENET_WIDTHS`, or the weights are neither on this machine nor to be downloaded.
    """
    shape, classes = model.input_shape[1:], model.output_shape[-1]
    if classes != 1000 or shape[2] != 3 or shape[0] != shape[1] or shape[0] not in IMAGENET_SIZES:
        raise ModelError(
            "Keras's ImageNet weights fit a network of 1000 classes on square colour images of "
            f"{', '.join(map(str, IMAGENET_SIZES))} pixels, not one of {classes} classes on images of shape "
            f"{shape}. Change --dataset or --image_size, or give a trained network with "
            "--float_model=FILE.keras."
        )
    width = _published_width(model)
    try:
        published = keras.applications.MobileNetV2(
            input_shape=shape, alpha=width, weights="imagenet", classifier_activation=None
        )
    except Exception as error:  # Keras wraps every failed download in a bare Exception
        raise ModelError(
            f"The ImageNet weights of MobileNet-v2 (width {width}, {shape[0]} pixels) are not in Keras's "
            f"cache folder ~/.keras/models and could not be downloaded: {error}. Fetch the file named in "
            "this message on a machine with network access and put it there, or give a trained network with "
            "--float_model=FILE.keras."
        ) from error
    for layer in published.layers:
        if layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())
