"""Which layer sees the image's pixels, so that its input codes can be the pixels themselves."""

import numbers

import numpy as np
import tf_keras as keras

from mmx_tf.folding import carriers
from mmx_tf.layers.quantizers.pixels import zero_point_of
from mmx_tf.network import graph
from mmx_tf.network.kinds import WEIGHTED

# A rescaling by less was written for pixels of 0 to 255: of images in [-1, 1] it would leave next to nothing.
LARGEST_SCALE = 1 / 16


def takes_bytes(network: keras.Model) -> str:
    """The name of the layer by which a network scales pixels of 0 to 255 itself; '' without such a layer.

    >>> image = keras.Input((8, 8, 3))
    >>> scaled = keras.layers.Rescaling(1 / 127.5, -1, name="scale")(image)
    >>> takes_bytes(keras.Model(image, keras.layers.Conv2D(4, 3)(scaled)))
    'scale'

    Args:
      network: canonical network, in which a Normalization is a Rescaling.
    """
    for name in carriers.image_rescalings(network):
        if np.max(np.abs(network.get_layer(name).scale)) <= LARGEST_SCALE:
            return name
    return ""


def pixel_layer(
    network: keras.Model, image, scaling: tuple[float, float]
) -> tuple[str, tuple[float, float]] | None:
    """The one weighted layer whose input codes can be the pixels.

    Args:
      network: canonical network.
      image: one of its inputs.
      scaling: (scale, offset); the image is pixel * scale + offset.

    Returns:
      The layer's name and the (scale, offset) of what it takes, with the network's own Rescaling in it. None
      if several layers take the image, another one takes it first, channels are scaled differently, what is
      scaled is padded, or no pixel stands for 0.
    """
    uses = graph.consumers(network)
    outputs = {node.layer.name: node.outputs for node in graph.nodes(network)}
    (scale, offset), tensor, padded = scaling, image, False
    while True:
        consumers = uses[id(tensor)]
        if len(consumers) != 1 or consumers[0] is None:
            return None
        layer = consumers[0]
        kind = type(layer).__name__
        if kind in WEIGHTED:
            break
        if kind == "Rescaling" and not padded:
            if not (isinstance(layer.scale, numbers.Real) and isinstance(layer.offset, numbers.Real)):
                return None
            scale, offset = scale * layer.scale, offset * layer.scale + layer.offset
        elif kind == "ZeroPadding2D":
            padded = True
        elif kind not in ("Reshape", "Flatten"):
            return None
        tensor = outputs[layer.name]
    try:
        zero_point_of(scale=scale, offset=offset)
    except ValueError:
        return None
    return layer.name, (scale, offset)
