"""Which layer sees the image's pixels, so that its input codes can be the pixels themselves."""

import numbers

import tf_keras as keras

from layers.pixel_quantizer import zero_point_of
from mmx_tf import canonical, graph


def pixel_layer(
    network: keras.Model, scaling: tuple[float, float]
) -> tuple[str, tuple[float, float]] | tuple[None, str]:
    """The one weighted layer that takes the image.

    Args:
      network: canonical network.
      scaling: (scale, offset); the network's image is pixel * scale + offset.

    Returns:
      The layer's name and the (scale, offset) of what it takes, with the network's own Rescaling in it; or
      None and the reason why no layer can take pixels.
    """
    uses = graph.consumers(network)
    outputs = {node.layer.name: node.outputs for node in graph.nodes(network)}
    (scale, offset), tensor = scaling, network.inputs[0]
    while True:
        consumers = uses[id(tensor)]
        if len(consumers) != 1 or consumers[0] is None:
            return None, f"{len(consumers)} layers take the image"
        layer = consumers[0]
        kind = type(layer).__name__
        if kind in canonical.WEIGHTED:
            break
        if kind == "Rescaling":
            if not (isinstance(layer.scale, numbers.Real) and isinstance(layer.offset, numbers.Real)):
                return None, f"{layer.name!r} scales each channel otherwise"
            scale, offset = scale * layer.scale, offset * layer.scale + layer.offset
        elif kind != "ZeroPadding2D":
            return None, f"{layer.name!r} ({kind}) takes the image"
        tensor = outputs[layer.name]
    try:
        zero_point_of(scale=scale, offset=offset)
    except ValueError as error:
        return None, str(error)
    return layer.name, (scale, offset)
