"""The Keras layers that a network may have: what each kind is, declared once.

>>> KINDS["MaxPooling2D"].commutes, KINDS["Conv2D"].weighted
(True, 'conv')
>>> "Dense" in WEIGHTED, "Flatten" in COMMUTING
(True, True)

Rows are by the class's name in tf_keras; a canonical network has those that are not `rewritten`, and `ours`.
What a kind becomes in integers is the layer of `mmx_tf.layers.integer` that is `form_of` it, or what a
function of `mmx_tf.folding` that `folds` it makes, by the same names.
"""

import dataclasses
from collections.abc import Sequence

import tf_keras as keras
from absl import logging


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is known of a kind of layer.

    Attributes:
      weighted: how its operations are counted ("conv", "transposed", "depthwise" or "dense"); "" where it has
        no kernel that is quantized.
      rewritten: the canonical network has other layers in its place.
      two_inputs: several inputs are taken two at a time.
      per_channel: it computes with a constant for each channel.
      in_training: it does something else in training.
      dropped: it does nothing but in training, and the canonical network goes without it: weight training has
        its own augmentation, and no noise.
      floor: what no output is below, whatever comes in; None where that depends on more.
      keeps_floor: no output is below what none of its inputs is below.
      keeps_sign: no output is below zero if no input is; so do those that keep their floor.
      one_grid: its operator has one grid for its inputs and its output.
      rounds: on that one grid it computes numbers between the codes.
      commutes: it commutes with a quantizer; on the grid of its input, its output is on it too.
      fuses: its operator takes ReLU or ReLU6 as its fused activation.
      keras3: there is one in Keras 3 that means the same.
      ours: it is of mmx_tf. Canonical networks have it, and what is read of networks of other forms.
      by_keras: Keras puts it into a network for an input or an operator; nobody builds with it.
    """

    weighted: str = ""
    rewritten: bool = False
    two_inputs: bool = False
    per_channel: bool = False
    in_training: bool = False
    dropped: bool = False
    floor: float | None = None
    keeps_floor: bool = False
    keeps_sign: bool = False
    one_grid: bool = False
    rounds: bool = False
    commutes: bool = False
    fuses: bool = False
    keras3: bool = True
    ours: bool = False
    by_keras: bool = False


KINDS = {
    "Conv2D": Kind(weighted="conv", fuses=True),
    "Conv2DTranspose": Kind(weighted="transposed", fuses=True),
    "DepthwiseConv2D": Kind(weighted="depthwise", fuses=True),
    "Dense": Kind(weighted="dense", fuses=True),
    "SeparableConv2D": Kind(rewritten=True),
    "GlobalMaxPooling2D": Kind(rewritten=True),
    "ThresholdedReLU": Kind(rewritten=True, keras3=False),
    "UpSampling2D": Kind(rewritten=True),
    "Resizing": Kind(rewritten=True),
    "Average": Kind(rewritten=True),
    "SlicingOpLambda": Kind(rewritten=True, keras3=False, by_keras=True),
    "Normalization": Kind(rewritten=True, per_channel=True),
    "Conv1D": Kind(rewritten=True),
    "DepthwiseConv1D": Kind(rewritten=True),
    "SeparableConv1D": Kind(rewritten=True),
    "MaxPooling1D": Kind(rewritten=True),
    "AveragePooling1D": Kind(rewritten=True),
    "GlobalMaxPooling1D": Kind(rewritten=True),
    "GlobalAveragePooling1D": Kind(rewritten=True),
    "ZeroPadding1D": Kind(rewritten=True),
    "Cropping1D": Kind(rewritten=True),
    "UpSampling1D": Kind(rewritten=True),
    "InputLayer": Kind(keras3=False, by_keras=True),
    "BatchNormalization": Kind(per_channel=True, in_training=True, fuses=True),
    "ReLU": Kind(),
    "LeakyReLU": Kind(),
    "PReLU": Kind(),
    "ELU": Kind(),
    "Activation": Kind(),
    "Softmax": Kind(floor=0.0),
    "Add": Kind(two_inputs=True, keeps_sign=True, fuses=True),
    "Multiply": Kind(two_inputs=True, keeps_sign=True, fuses=True),
    "Subtract": Kind(two_inputs=True, fuses=True),
    "Maximum": Kind(two_inputs=True, keeps_floor=True, one_grid=True),
    "Minimum": Kind(two_inputs=True, keeps_floor=True, one_grid=True),
    "Concatenate": Kind(keeps_floor=True, one_grid=True),
    "GlobalAveragePooling2D": Kind(keeps_floor=True),
    "AveragePooling2D": Kind(keeps_floor=True),
    "MaxPooling2D": Kind(keeps_floor=True, commutes=True),
    "ZeroPadding2D": Kind(keeps_floor=True, commutes=True),
    "Cropping2D": Kind(keeps_floor=True, commutes=True),
    "Flatten": Kind(keeps_floor=True, commutes=True),
    "Reshape": Kind(keeps_floor=True, commutes=True),
    "Permute": Kind(keeps_floor=True, commutes=True),
    "Dropout": Kind(keeps_floor=True, commutes=True, in_training=True),
    "Rescaling": Kind(per_channel=True, fuses=True),
    "TFOpLambda": Kind(keras3=False, by_keras=True),
    "NearestResize": Kind(ours=True, keeps_floor=True, commutes=True),
    "BilinearResize": Kind(ours=True, keeps_floor=True, one_grid=True, rounds=True),
    "Slice": Kind(ours=True, keeps_floor=True, commutes=True),
    "ScaledAdd": Kind(ours=True, fuses=True),
    "HardSigmoid": Kind(ours=True, floor=0.0),
    "Smooth": Kind(ours=True),
    "EightBitPReLU": Kind(ours=True),
    **{name: Kind(dropped=True) for name in (
        "RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast",
        "RandomBrightness", "GaussianNoise", "GaussianDropout", "AlphaDropout", "SpatialDropout1D",
        "SpatialDropout2D", "SpatialDropout3D", "ActivityRegularization",
    )},
}  # fmt: skip


def _which(**facts) -> tuple[str, ...]:
    """The kinds for which facts hold, in the order of the table."""
    return tuple(
        name
        for name, kind in KINDS.items()
        if all(bool(getattr(kind, fact)) is wanted for fact, wanted in facts.items())
    )


WEIGHTED = _which(weighted=True)
SUPPORTED = _which(weighted=False, rewritten=False, ours=False, dropped=False)
DROPPED = _which(dropped=True)
BUILDABLE = _which(ours=False, dropped=False, by_keras=False)
"""What a network may be built with, all of which has an integer form."""
TWO_INPUTS = _which(two_inputs=True)
PER_CHANNEL = _which(per_channel=True)
IN_TRAINING = _which(in_training=True)
FLOOR_KEEPING = _which(keeps_floor=True)
ONE_GRID = _which(one_grid=True)
ROUNDING = _which(rounds=True)
COMMUTING = _which(commutes=True)
FUSING = _which(fuses=True)
OF_KERAS3 = _which(keras3=True, ours=False, dropped=False)


def tell_of_dropped(network: str, layers: Sequence[str]) -> None:
    """Logs one line with the names of the layers that a network goes without."""
    if layers:
        logging.warning(
            "%d layer(s) of %s act in training alone and are left out: %s.", len(layers), network,
            ", ".join(layers),
        )  # fmt: skip


class UnsupportedLayerError(ValueError):
    """A layer that cannot be handled, named with its class and the way out."""

    def __init__(self, layer: keras.layers.Layer, reason: str, advice: str):
        super().__init__(f"Layer {layer.name!r} ({type(layer).__name__}) {reason} {advice}")
        self.layer_name = layer.name
