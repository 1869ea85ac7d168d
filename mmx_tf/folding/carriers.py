"""Where a fixed network needs 8-bit carriers.

An exported tensor has one grid. Where a tensor feeds exactly one quantizer it is written on that quantizer's
grid at once. Everywhere else (an addition, a pooling, several consumers, the logits) it is written on an
8-bit grid of its own, its carrier, and each consuming layer requantizes from there. The fixed network trains
with the carriers in place, so that the file computes what was trained.

TFLite's int8 CONCATENATION, RESIZE_BILINEAR and AVERAGE_POOL_2D keep one grid from input to output: the
tensors around them share one carrier, and so do those of a maximum or minimum. (An average pooling is an
AVERAGE_POOL_2D only if it pads, see `averages_windows`.) The output of a sigmoid, a tanh or a softmax has a
grid that nothing is learnt of (`layers.quantizers.gates`), and so have pixels; where they meet other tensors
on one grid, they get a carrier besides.
"""

import collections
from collections.abc import Collection

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.grid import LOWEST
from mmx_tf.layers.integer.curves import TANH_SCALE
from mmx_tf.layers.integer.smooth import GATE_SCALE
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.gates import HARD_SIGMOID_SCALE, LOGISTIC_SCALE, GateQuantizer, HardSigmoid
from mmx_tf.layers.quantizers.pixels import PixelQuantizer
from mmx_tf.layers.quantizers.smooth_gates import Smooth
from mmx_tf.network import floors, graph
from mmx_tf.network.heads import is_quantizer, is_sigmoid, is_softmax
from mmx_tf.network.kinds import COMMUTING, FUSING, ONE_GRID, ROUNDING, WEIGHTED


def is_fusable_activation(layer) -> bool:
    """Whether the operator before the layer takes it over: a ReLU of any maximum.

    TFLite fuses ReLU and ReLU6; any other maximum is where the codes of its output saturate.
    """
    return (
        isinstance(layer, keras.layers.ReLU)
        and float(layer.negative_slope) == 0.0
        and float(layer.threshold) == 0.0
    )


def averages_windows(layer, shape) -> bool:
    """Whether an AveragePooling2D averages whole windows, which a depthwise convolution computes.

    AVERAGE_POOL_2D leaves padding out of the mean, which no convolution can; but XNNPACK does not take it, it
    keeps its grid, and it rounds halves away from zero, where quantizers round them to even.

    Args:
      layer: the AveragePooling2D.
      shape: of its input, (batch, height, width, channels).
    """
    (height, width), strides = layer.pool_size, layer.strides
    padded = layer.padding == "same" and any(
        max((-(-length // stride) - 1) * stride + size - length, 0)
        for length, stride, size in zip(shape[1:3], strides, (height, width), strict=True)
    )
    return not padded


def gate_quantizer(layer) -> GateQuantizer | None:
    """The quantizer of an output whose grid is given, such as a sigmoid's; None for other layers."""
    grid = given_grid(layer)
    return None if grid is None else GateQuantizer(**grid, name=f"{layer.name}_gate")


def given_grid(layer) -> dict | None:
    """The arguments of a `GateQuantizer` for an output whose range is known; None for other layers."""
    if isinstance(layer, HardSigmoid):
        return {"scale": HARD_SIGMOID_SCALE}
    if is_sigmoid(layer) or is_softmax(layer):
        return {"scale": LOGISTIC_SCALE}
    if isinstance(layer, Smooth) and layer.is_gate:
        return {"scale": GATE_SCALE}
    is_tanh = type(layer).__name__ == "Activation" and layer.get_config()["activation"] == "tanh"
    return {"scale": TANH_SCALE, "low": LOWEST} if is_tanh else None


def final_softmaxes(network: keras.Model) -> set[str]:
    """Names of the softmax layers whose output is the network's alone: they are left out of the file."""
    uses = graph.consumers(network)
    return {
        node.layer.name
        for node in graph.nodes(network)
        if is_softmax(node.layer) and uses[id(node.outputs)] == [None]
    }


def plan(network: keras.Model, shared: Collection[str] = ()) -> dict[int, ActivationQuantizer]:
    """Carriers of a quantized network.

    Args:
      network: flat functional network with an activation quantizer in front of every weighted layer.
      shared: names of quantizers in whose place another one of the same tensor quantizes.

    Returns:
      Maps ids of the network's symbolic tensors to the carrier that quantizes them. Tensors that must share
      a grid map to the same layer object.
    """
    uses = {
        tensor_id: [layer for layer in layers if layer is None or layer.name not in shared]
        for tensor_id, layers in graph.consumers(network).items()
    }
    calls = graph.nodes(network)
    outputs_of_layer = {node.layer.name: node.outputs for node in calls}
    known: dict[int, float] = {}  # tensor id -> what it cannot fall below
    grid: dict[int, int] = {}  # tensor id -> representative of the tensors that share its grid
    needing: list[tuple[int, str]] = []
    fixed: list[tuple[int, str]] = []  # tensors whose grid is given
    sharing: list[int] = []  # outputs of operators that have the grid of their inputs
    image = _image_tensors(network)
    left_out = final_softmaxes(network)

    def root(tensor_id):
        while grid.get(tensor_id, tensor_id) != tensor_id:
            tensor_id = grid[tensor_id]
        return tensor_id

    for tensor in network.inputs:
        if not _only_feeds_one_quantizer(tensor, uses, outputs_of_layer, image):
            needing.append((id(tensor), tensor.node.layer.name))
    for node in calls:
        output, kind = id(node.outputs), type(node.layer).__name__
        inputs = [id(tensor) for tensor in tf.nest.flatten(node.call_args[0])]
        known[output] = floors.floor_of(node.layer, node.call_args, known)
        averaging = kind == "AveragePooling2D" and not averages_windows(node.layer, node.call_args[0].shape)
        rounds = averaging or kind in ROUNDING
        if kind in (*COMMUTING, *ONE_GRID) or averaging:
            for tensor_id in inputs:
                grid[root(tensor_id)] = root(output)
            if kind not in COMMUTING:
                sharing.append(output)
            if rounds:
                needing.append((output, node.layer.name))
        elif node.layer.name in left_out:
            continue
        elif isinstance(node.layer, PixelQuantizer) or given_grid(node.layer):
            fixed.append((output, node.layer.name))
        elif not _stays_unquantized(node, uses, outputs_of_layer, image):
            needing.append((output, node.layer.name))

    shared = {root(tensor_id) for tensor_id in sharing}
    needing += [(tensor_id, name) for tensor_id, name in fixed if root(tensor_id) in shared]
    lowest: dict[int, float] = {}
    for tensor_id, _ in needing:
        floor = known.get(tensor_id, floors.UNKNOWN)
        lowest[root(tensor_id)] = min(lowest.get(root(tensor_id), floor), floor)
    uses_of = collections.Counter(root(tensor_id) for tensor_id, _ in needing)
    carriers: dict[int, ActivationQuantizer] = {}
    for tensor_id, name in needing:
        if root(tensor_id) not in carriers:
            carriers[root(tensor_id)] = ActivationQuantizer(
                bits=8,
                **floors.codes_of(lowest[root(tensor_id)]),
                covering=True,
                uses=uses_of[root(tensor_id)],
                name=f"{name}_carrier",
            )
    return {tensor_id: carriers[root(tensor_id)] for tensor_id, _ in needing}


def image_rescalings(network) -> list[str]:
    """Names of the Rescaling layers that take the image itself, or what another of them made of it."""
    return [node.layer.name for node in _image_rescalings(network)]


def _image_tensors(network) -> set[int]:
    """Ids of the image and of what rescalings make of it, which stay in front of the file."""
    return {id(tensor) for tensor in network.inputs} | {
        id(node.outputs) for node in _image_rescalings(network)
    }


def _image_rescalings(network) -> list:
    ids, found = {id(tensor) for tensor in network.inputs}, []
    for node in graph.nodes(network):
        if type(node.layer).__name__ == "Rescaling" and id(node.call_args[0]) in ids:
            ids.add(id(node.outputs))
            found.append(node)
    return found


def _stays_unquantized(node, uses, outputs_of_layer, image) -> bool:
    """Whether the output is inside a fused operator, comes from a quantizer, or feeds exactly one."""
    layer = node.layer
    consumers = uses.get(id(node.outputs), [])
    if is_quantizer(layer):
        return True
    if len(consumers) == 1 and consumers[0] is not None:
        kind = type(layer).__name__
        if kind in WEIGHTED and isinstance(consumers[0], keras.layers.BatchNormalization):
            return True
        if kind in FUSING and is_fusable_activation(consumers[0]):
            return True
    return _only_feeds_one_quantizer(node.outputs, uses, outputs_of_layer, image)


def _only_feeds_one_quantizer(tensor, uses, outputs_of_layer, image) -> bool:
    """Follows commuting layers; what feeds a Rescaling of the image is not quantized, its output is."""
    consumers = uses.get(id(tensor), [])
    if len(consumers) != 1 or consumers[0] is None:
        return False
    kind = type(consumers[0]).__name__
    if is_quantizer(consumers[0]) or (kind == "Rescaling" and id(tensor) in image):
        return True
    if kind in COMMUTING:
        return _only_feeds_one_quantizer(outputs_of_layer[consumers[0].name], uses, outputs_of_layer, image)
    return False
