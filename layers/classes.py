"""Every layer class of ours, imported: Keras knows a class by name from when its module is.

A network's own class imports this, so that Keras, which imports the module of that class, can read its file.
"""

from mmx_tf.layers import batch_norm, image_layers
from mmx_tf.layers.integer import (
    convolutions,
    curves,
    differences,
    factors,
    layers,
    moving,
    shapes,
    smooth,
    softmax,
    weighted,
)
from mmx_tf.layers.quantizers import (
    activation,
    gates,
    multi_branch,
    multi_branch_weights,
    pixels,
    slopes,
    smooth_gates,
    weights,
)

__all__ = [
    "activation",
    "batch_norm",
    "convolutions",
    "curves",
    "differences",
    "factors",
    "gates",
    "image_layers",
    "layers",
    "moving",
    "multi_branch",
    "multi_branch_weights",
    "pixels",
    "shapes",
    "slopes",
    "smooth",
    "smooth_gates",
    "softmax",
    "weighted",
    "weights",
]
