"""The lower clip of a low-bit tensor without an operator of its own: a fused activation does it.

int8 saturates at both ends of its 256 codes, and a signed tensor of b bits has fewer: where its grid puts the
lowest code at -128 (`Grid.lower_clip`), the upper clip is left to do. Of TFLite's fused activations
RELU_N1_TO_1 cuts off above zero and leaves values below it: at the real value 1. So the file holds the tensor
in a unit of its own, in which the highest code stands for 1:

    codes -7..7 of step 0.3     scale 1/7, zero point -121, RELU_N1_TO_1; a unit is 2.1

The layer that makes the tensor has its weight scales divided by the unit, the layers that take it multiply
theirs, so that the accumulators and the codes are those that there would be without units. A MUL between two
grids has the ratio of units in its constant. An ADD has nothing of the kind: behind one, the whole chain of
additions and carriers that leads to it is in the unit of the tensor at its end.

>>> bounded_grid(low=-7, high=7)
Grid(scale=0.1428571492433548, zero_point=-121)
"""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.grid import Grid
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.weights import QuantizeWrapper
from mmx_tf.network import graph
from mmx_tf.network.kinds import COMMUTING

BOUNDED = "relu_n1_to_1"
"""The fused activation that is the upper clip on a `bounded_grid`."""


def bounded_grid(*, low: int, high: int) -> Grid:
    """The grid on which `BOUNDED` leaves the codes low..high and no others; -low <= high."""
    return Grid.lower_clip(step_size=1 / high, lowest_code=low)


def into_weights_alone(network: keras.Model) -> set[str]:
    """Names of the quantizers of a fixed network whose codes only weighted layers take: they know units.

    Padding, pooling and other layers that commute with quantization may stand between.
    """
    uses = graph.consumers(network)
    calls = graph.nodes(network)
    outputs = {node.layer.name: node.outputs for node in calls}

    def reaches_weights(tensor) -> bool:
        return all(
            isinstance(layer, QuantizeWrapper)
            or (type(layer).__name__ in COMMUTING and reaches_weights(outputs[layer.name]))
            for layer in uses[id(tensor)]
        )

    return {
        node.layer.name
        for node in calls
        if isinstance(node.layer, ActivationQuantizer) and node.layer.uses == 1
        if reaches_weights(node.outputs)
    }


def unit_of(quantizer: ActivationQuantizer) -> float:
    """The unit of a quantizer's tensor on its `bounded_grid`: the value of its highest code."""
    grid = bounded_grid(low=quantizer.low, high=quantizer.high)
    return float(quantizer.step_size.numpy()) / grid.scale


def chains(network: keras.Model) -> dict[str, ActivationQuantizer]:
    """The quantizer at the end of a chain of additions, by its own name and those of the chain's carriers.

    A chain is an addition whose sum goes to one low-bit quantizer, and upwards from there carriers and the
    additions that make them, as far as all of them can be in its unit: carriers come from convolutions, dense
    layers or additions, and go to additions of the chain or to quantizers.
    """
    calls = graph.nodes(network)
    makers = {id(node.outputs): node for node in calls}
    uses = graph.consumers(network)
    ends = into_weights_alone(network)
    found: dict[str, ActivationQuantizer] = {}
    for node in calls:
        source = makers.get(id(node.call_args[0])) if node.layer.name in ends else None
        # 8-bit codes, and those that begin at 0 like their source, have no clip of their own.
        if source is None or not _is_sum(source, uses) or node.layer.bits == 8 or not node.layer.signed:
            continue
        carriers = _carriers(source, makers, uses)
        if carriers is not None:
            found |= dict.fromkeys([*carriers, node.layer.name], node.layer)
    return found


def _is_sum(node, uses) -> bool:
    return type(node.layer).__name__ == "Add" and len(uses[id(node.outputs)]) == 1


def _carriers(last, makers, uses) -> list[str] | None:
    """Names of the carriers above an addition; None where one of them cannot have another unit."""
    carriers, sums, waiting = [], {last.layer.name}, [last]
    while waiting:
        for tensor in tf.nest.flatten(waiting.pop().call_args[0]):
            carrier = makers.get(id(tensor))
            if carrier is None or not _is_carrier(carrier.layer):
                return None
            carriers.append(carrier)
            source = makers.get(id(carrier.call_args[0]))
            if source is None or len(uses[id(source.outputs)]) != 1:
                return None
            if _is_sum(source, uses):
                sums.add(source.layer.name)
                waiting.append(source)
            elif not _is_weighted(source, makers, uses):
                return None
    for carrier in carriers:
        for layer in uses[id(carrier.outputs)]:
            if not (isinstance(layer, ActivationQuantizer) or getattr(layer, "name", None) in sums):
                return None
    return [carrier.layer.name for carrier in carriers]


def _is_carrier(layer) -> bool:
    return isinstance(layer, ActivationQuantizer) and layer.bits == 8 and layer.uses == 1


def _is_weighted(node, makers, uses) -> bool:
    """Whether it is a weighted layer, or the batch norm that is folded into one; both without activation."""
    if type(node.layer).__name__ == "BatchNormalization":
        node = makers.get(id(node.call_args[0]))
        if node is None or len(uses[id(node.outputs)]) != 1:
            return False
    return isinstance(node.layer, QuantizeWrapper)
