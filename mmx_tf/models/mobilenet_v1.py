"""MobileNet-v1 (Howard et al., 2017): 3x3 depthwise and 1x1 convolutions in turn.

Layers, biases, ReLU and padding are those of mlcommons/tiny (`mobilenet_v1`, MLPerf Tiny's visual wake
words: width 0.25, 96x96 pixels, two classes), whose weights fit one by one in their order; names are those
of `tf_keras.applications.MobileNet`, which has ReLU6 and no biases. Two things differ: images are in [-1,
1], and the network gives logits. Images below 96 pixels get the *small-image variant*, whose first two
reductions (`conv1` and `conv_dw_2`) keep the resolution: an overall reduction by 8 in place of 32.

    >>> model = build(input_shape=(96, 96, 3), num_classes=2, width=0.25)
    >>> model.count_params()
    221794
"""

import tf_keras as keras

from mmx_tf.models import published_weights, rules
from mmx_tf.models.rules import make_divisible

# (filters at width 1, stride) of the 13 pairs of convolutions: Table 1 of the MobileNet paper.
BLOCKS = (
    ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2))
    + ((512, 1), (512, 1), (512, 1), (512, 1), (512, 1))
    + ((1024, 2), (1024, 1))
)
STEM_FILTERS = 32


def build(
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    width: float = 1.0,
    classifier: bool = True,
    variant: str = "auto",
) -> keras.Model:
    """Build MobileNet-v1 with random weights; see `mmx_tf.models.build` for arguments and errors."""
    rules.check(
        "mobilenet_v1", input_shape=input_shape, num_classes=num_classes, width=width, classifier=classifier
    )
    small = rules.is_small(input_shape, variant)
    momentum = 0.9 if rules.is_small(input_shape) else 0.99

    inputs = keras.Input(input_shape, name="image")
    x = keras.layers.Conv2D(
        make_divisible(STEM_FILTERS * width), 3, strides=1 if small else 2, padding="same",
        kernel_initializer="he_normal", name="conv1",
    )(inputs)  # fmt: skip
    x = _norm_relu(x, name="conv1", momentum=momentum)
    for index, (filters, stride) in enumerate(BLOCKS, start=1):
        x = keras.layers.DepthwiseConv2D(
            3, strides=1 if small and index == 2 else stride, padding="same", name=f"conv_dw_{index}"
        )(x)
        x = _norm_relu(x, name=f"conv_dw_{index}", momentum=momentum)
        x = keras.layers.Conv2D(
            make_divisible(filters * width), 1, padding="same", kernel_initializer="he_normal",
            name=f"conv_pw_{index}",
        )(x)  # fmt: skip
        x = _norm_relu(x, name=f"conv_pw_{index}", momentum=momentum)
    x = keras.layers.GlobalAveragePooling2D(name="global_average_pooling2d")(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes, name="predictions")(x), name="mobilenet_v1")


def load_imagenet_weights(model: keras.Model) -> None:
    """Refuses (ModelError): those that Keras publishes are of a network with ReLU6."""
    published_weights.refuse("MobileNet-v1 with ReLU")


def _norm_relu(x, *, name: str, momentum: float):
    x = keras.layers.BatchNormalization(momentum=momentum, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
