"""One step size for layers that read one tensor at equal bits.

Each searched layer has a quantizer of its own. Where several read one tensor, the file has a carrier and a
QUANTIZE for each of them. Those of equal bits can have one quantizer in the fixed network: then one QUANTIZE
makes their codes, and where nothing else reads the tensor there is no carrier at all.
"""

from collections.abc import Mapping

import tf_keras as keras

from mmx_tf.layers.quantizers.pixels import PixelQuantizer
from mmx_tf.network import graph
from mmx_tf.network.heads import is_quantizer


def shared_quantizers(network: keras.Model, bits: Mapping[str, int]) -> dict[str, str]:
    """Which quantizers another one takes the place of.

    Args:
      network: a search's network, with a quantizer in front of every weighted layer.
      bits: of the selection, by the quantizers' names.

    Returns:
      For each quantizer that reads a tensor behind another of equal bits and range of codes: its name, and
      the other's, which is the first one in the network's order.
    """
    first: dict[tuple, str] = {}
    found = {}
    for node in graph.nodes(network):
        layer = node.layer
        if not is_quantizer(layer) or isinstance(layer, PixelQuantizer):
            continue
        covering = getattr(layer, "covering", False)
        key = (id(node.call_args[0]), bits[layer.name], layer.signed, layer.floor, covering)
        name = first.setdefault(key, layer.name)
        if name != layer.name:
            found[layer.name] = name
    return found
