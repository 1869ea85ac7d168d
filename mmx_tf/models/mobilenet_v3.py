"""MobileNet-v3-large (Howard et al., ICCV 2019): inverted residuals with squeeze-excite and hard-swish.

Blocks are those of MobileNet-v2 with expansions and filter sizes found by a search. In eight of them a
*squeeze-excite* multiplies every channel by a gate that is computed of all channels' means. The later half
uses

    hard_swish(x) = x * hard_sigmoid(x),     hard_sigmoid(x) = relu6(x + 3) / 6,

which is never below -3/8 (at x = -3/2). Layer names and structure are those of
`tf_keras.applications.MobileNetV3Large`, so weights load by name in both directions. Four things differ: the
network gives logits; it takes images in [-1, 1] and has no layer that rescales pixels; it has no dropout in
front of the last layer, which fine-tuning at few bits does not need and a resumed run could not repeat; and
images below 96 pixels get the *small-image variant*, whose first two reductions (`Conv` and
`expanded_conv_1`) keep the resolution: an overall reduction by 8 in place of 32.

    >>> model = build(input_shape=(224, 224, 3), num_classes=1000)
    >>> model.count_params()
    5507432
"""

import tf_keras as keras

from mmx_tf.models import published_weights, rules
from mmx_tf.models.rules import batch_norm_momentum, make_divisible, stride_two_padding

# (filters at width 1, filter size, stride, expansion, squeeze-excite, hard-swish) of the 15 blocks: Table 1
# of the MobileNet-v3 paper, expansions relative to the block's input.
BLOCKS = (
    ((16, 3, 1, 1, False, False),)
    + ((24, 3, 2, 4, False, False), (24, 3, 1, 3, False, False))
    + ((40, 5, 2, 3, True, False), (40, 5, 1, 3, True, False), (40, 5, 1, 3, True, False))
    + ((80, 3, 2, 6, False, True), (80, 3, 1, 2.5, False, True))
    + ((80, 3, 1, 2.3, False, True), (80, 3, 1, 2.3, False, True))
    + ((112, 3, 1, 6, True, True), (112, 3, 1, 6, True, True))
    + ((160, 5, 2, 6, True, True), (160, 5, 1, 6, True, True), (160, 5, 1, 6, True, True))
)
STEM_FILTERS = 16
SQUEEZE_RATIO = 0.25
IMAGENET_WIDTHS = (0.75, 1.0)
IMAGENET_SIZES = (224,)


def build(
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    width: float = 1.0,
    classifier: bool = True,
    variant: str = "auto",
) -> keras.Model:
    """Build MobileNet-v3-large with random weights; see `mmx_tf.models.build` for arguments and errors.

    As in Keras, the stem has 16 channels at every width, and the last hidden layer at least 1280.
    """
    rules.check(
        "mobilenet_v3_large",
        input_shape=input_shape,
        num_classes=num_classes,
        width=width,
        classifier=classifier,
    )
    small = rules.is_small(input_shape, variant)
    momentum = batch_norm_momentum(small=rules.is_small(input_shape))
    *blocks, head, hidden = _channels(width)

    inputs = keras.Input(input_shape, name="image")
    x = keras.layers.Conv2D(
        STEM_FILTERS, 3, strides=1 if small else 2, padding="same", use_bias=False, name="Conv"
    )(inputs)
    x = _activation(_norm(x, name="Conv", momentum=momentum), name="Conv", hard_swish=True)
    for index, (filters, block) in enumerate(zip(blocks, BLOCKS, strict=True)):
        _, kernel_size, stride, expansion, squeezes, hard_swish = block
        x = _block(
            x,
            prefix=f"expanded_conv_{index}/" if index else "expanded_conv/",
            filters=filters,
            kernel_size=kernel_size,
            stride=1 if small and index == 1 else stride,
            expanded=make_divisible(x.shape[-1] * expansion) if index else None,
            squeezes=squeezes,
            hard_swish=hard_swish,
            padded=stride == 2,
            momentum=momentum,
        )
    x = keras.layers.Conv2D(head, 1, padding="same", use_bias=False, name="Conv_1")(x)
    x = _activation(_norm(x, name="Conv_1", momentum=momentum), name="Conv_1", hard_swish=True)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="global_average_pooling2d")(x)
    x = keras.layers.Conv2D(hidden, 1, padding="same", name="Conv_2")(x)
    x = _activation(x, name="Conv_2", hard_swish=True)
    x = keras.layers.Conv2D(num_classes, 1, padding="same", name="Logits")(x)
    return keras.Model(inputs, keras.layers.Flatten(name="flatten")(x), name="mobilenet_v3_large")


def load_imagenet_weights(model: keras.Model) -> None:
    """Fill a MobileNet-v3-large of `build` with Keras's ImageNet weights, from ~/.keras/models or downloaded.

    Raises:
        ModelError: not 1000 classes, not a colour image of one of `IMAGENET_SIZES`, not one of
            `IMAGENET_WIDTHS`, or the weights are neither on this machine nor to be downloaded.
    """
    published_weights.check_shapes(model, sizes=IMAGENET_SIZES)
    projections = [f"expanded_conv_{i}/project" if i else "expanded_conv/project" for i in range(len(BLOCKS))]
    channels = tuple(model.get_layer(name).filters for name in [*projections, "Conv_1", "Conv_2"])
    width = published_weights.published_width("MobileNet-v3-large", channels, _channels, IMAGENET_WIDTHS)
    shape = model.input_shape[1:]
    published_weights.load(
        model,
        f"MobileNet-v3-large (width {width}, {shape[0]} pixels)",
        lambda: keras.applications.MobileNetV3Large(
            input_shape=shape, alpha=width, weights="imagenet", classifier_activation=None,
            include_preprocessing=False,
        ),
    )  # fmt: skip


def _channels(width: float) -> tuple[int, ...]:
    """Output channels of the 15 blocks, of `Conv_1` and of `Conv_2` at this width multiplier."""
    blocks = tuple(make_divisible(block[0] * width) for block in BLOCKS)
    return (*blocks, make_divisible(blocks[-1] * 6), make_divisible(1280 * width) if width > 1 else 1280)


def _block(
    x, *, prefix, filters, kernel_size, stride, expanded, squeezes, hard_swish, padded, momentum
):  # fmt: skip
    """One inverted residual block; `padded` puts its zero padding into a layer of its own."""
    shortcut = x
    if expanded is not None:
        name = prefix + "expand"
        x = keras.layers.Conv2D(expanded, 1, padding="same", use_bias=False, name=name)(x)
        x = _activation(_norm(x, name=name, momentum=momentum), name=name, hard_swish=hard_swish)
    name = prefix + "depthwise"
    if padded:
        half = kernel_size // 2
        padding = stride_two_padding(x, kernel_size) if stride == 2 else half
        x = keras.layers.ZeroPadding2D(padding, name=name + "/pad")(x)
    x = keras.layers.DepthwiseConv2D(
        kernel_size, strides=stride, padding="valid" if padded else "same", use_bias=False, name=name
    )(x)
    x = _activation(_norm(x, name=name, momentum=momentum), name=name, hard_swish=hard_swish)
    if squeezes:
        x = _squeeze_excite(x, prefix=prefix + "squeeze_excite/")
    name = prefix + "project"
    x = keras.layers.Conv2D(filters, 1, padding="same", use_bias=False, name=name)(x)
    x = _norm(x, name=name, momentum=momentum)
    if stride == 1 and not padded and filters == shortcut.shape[-1]:
        x = keras.layers.Add(name=prefix + "Add")([shortcut, x])
    return x


def _norm(x, *, name: str, momentum: float):
    return keras.layers.BatchNormalization(epsilon=1e-3, momentum=momentum, name=name + "/BatchNorm")(x)


def _squeeze_excite(x, *, prefix: str):
    """Multiplies every channel by a gate in 0..1 that the means of all channels decide."""
    filters = x.shape[-1]
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name=prefix + "AvgPool")(x)
    squeezed = make_divisible(filters * SQUEEZE_RATIO)
    gate = keras.layers.Conv2D(squeezed, 1, padding="same", name=prefix + "Conv")(gate)
    gate = keras.layers.ReLU(name=prefix + "Relu")(gate)
    gate = keras.layers.Conv2D(filters, 1, padding="same", name=prefix + "Conv_1")(gate)
    gate = _hard_sigmoid(gate, name=prefix + "hard_sigmoid")
    return keras.layers.Multiply(name=prefix + "Mul")([x, gate])


def _activation(x, *, name: str, hard_swish: bool):
    if not hard_swish:
        return keras.layers.ReLU(name=name + "/relu")(x)
    gate = _hard_sigmoid(x, name=name + "/hard_sigmoid")
    return keras.layers.Multiply(name=name + "/hard_swish")([x, gate])


def _hard_sigmoid(x, *, name: str):
    """relu6(x + 3) / 6 in the operations of Keras applications, so that outputs are equal to the last bit."""
    x = keras.layers.Rescaling(1.0, offset=3.0, name=name + "/add_3")(x)
    return keras.layers.Rescaling(1.0 / 6.0, name=name)(keras.layers.ReLU(6.0, name=name + "/relu6")(x))
