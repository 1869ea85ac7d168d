"""Softmaxes at the end of a network, in whatever order it is written, as its last layers.

The file goes without a softmax that ends a network: its largest entry is that of the logits. So a softmax
of the last axis and a Reshape or Flatten behind it that keeps that axis change places, which changes no
number. A Dropout behind such a softmax is left out: it is of no use to a loss, and acts in training alone.

    Conv2D, Softmax, Reshape((H * W, C))      ->     Conv2D, Reshape((H * W, C)), Softmax
    Dense, Softmax, Dropout                   ->     Dense, Softmax
"""

import tf_keras as keras

from mmx_tf.network import graph
from mmx_tf.network.heads import is_softmax, keeps_last_axis
from mmx_tf.network.kinds import tell_of_dropped


def with_softmaxes_last(network: keras.Model) -> keras.Model:
    """The canonical network whose final softmaxes are its last layers; the network itself where they are."""
    uses = graph.consumers(network)
    moved, behind, dropped = set(), {}, []
    for output in network.outputs:
        passed = _behind_a_softmax(output, uses)
        if passed:
            softmax, *others = passed
            moved.add(softmax.name)
            behind[others[-1].name] = softmax
            dropped += [layer.name for layer in others if type(layer).__name__ == "Dropout"]
    if not moved:
        return network
    tell_of_dropped(network.name, dropped)

    def call(layer, args, kwargs):
        left_out = layer.name in moved or layer.name in dropped
        value = args[0] if left_out else layer(*args, **kwargs)
        if layer.name not in behind:
            return value
        softmax = behind[layer.name]
        # A new one, since it takes another shape, of which the last axis may be another number.
        axis = {"axis": -1} if isinstance(softmax, keras.layers.Softmax) else {}
        return type(softmax).from_config(softmax.get_config() | axis)(value)

    inputs = graph.inputs_like(network)
    return keras.Model(graph.single(inputs), graph.replay(network, inputs, call), name=network.name)


def _behind_a_softmax(output, uses) -> list:
    """[softmax, layers behind it] in their order, where these end the network alone; else an empty list."""
    passed, tensor = [], output
    while uses[id(tensor)] == ([passed[-1]] if passed else [None]) and not tensor.node.is_input:
        layer = tensor.node.layer
        passed.append(layer)
        if is_softmax(layer):
            return passed[::-1] if len(passed) > 1 else []
        if type(layer).__name__ != "Dropout" and not keeps_last_axis(tensor):
            return []
        tensor = tensor.node.keras_inputs[0]
    return []
