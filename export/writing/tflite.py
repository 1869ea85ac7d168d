"""From a folded model to the bytes of a .tflite: one operator per integer layer, in topological order.

    data = convert(folded, input_type="uint8")
    write_atomically("model.tflite", data)

Tensor names are the names of the Keras layers that produce them. The batch dimension is 1 with shape
signature -1: `resize_tensor_input` gives larger batches (of which a TRANSPOSE_CONV computes under XNNPACK
alone). No float tensor is inside unless float input or output is asked for, or an activation has no integer
operator (`layers.integer.smooth`). How images go in and logits come out is in `export.writing.borders`.
"""

from collections.abc import Mapping

from ai_edge_litert import schema_py_generated as schema

from mmx_tf.choices import INPUT_TYPES
from mmx_tf.export.writing import activations, image_operators, operators  # noqa: F401 (writers)
from mmx_tf.export.writing.borders import write_input, write_outputs
from mmx_tf.export.writing.context import WRITERS, Context
from mmx_tf.export.writing.file_ends import file_ends
from mmx_tf.export.writing.flatbuffer import GraphWriter
from mmx_tf.layers.integer.layers import Dequantize, QuantizeInput
from mmx_tf.layers.quantizers.pixels import QuantizePixels

TensorType = schema.TensorType


def convert(
    folded,
    *,
    input_type="uint8",
    output_type="int8",
    task=None,
    output_names=None,
    metadata=None,
    packed_as_matrix_product=True,
):
    """The bytes of the .tflite that computes the same codes as `folded` under LiteRT's XNNPACK delegate.

    Args:
      folded: a functional tf_keras model of integer layers, with `QuantizeInput` after each input (or after
        the image's rescaling, which then stays in front of the file); a `Dequantize` may end it.
      input_type: of all inputs, or a dict by their names. "int8": the input tensor holds the codes of
        `QuantizeInput`. "uint8": the same codes plus 128, with one exact QUANTIZE in front. "float32": a
        QUANTIZE of the float image in front.
      output_type: "int8": the outputs' codes. "float32": a DEQUANTIZE of them at the end. "class": two
        outputs, the index of the largest code (int32, the first of equal ones), or for yes-or-no tasks 1
        where the logit is above 0, and the probabilities (int8, code / 256 + 0.5). Of several outputs, one
        for all, or in a dict by their names.
      task: for "class", what the outputs stand for, one of `export.comparing.heads.TASKS`, of several in a
        dict by their names; None to tell it from the model.
      output_names: of several outputs, for the signature; by default the layers that compute the codes.
      metadata: dict from name to bytes, written to the model's metadata buffers.
      packed_as_matrix_product: whether a pointwise convolution with packed weights is written as a
        FULLY_CONNECTED, for XNNPACK, or as the CONV_2D that it is, for TensorFlow Lite Micro.

    The signature "serving_default" names each input like the model's input layer, codes and float logits like
    the layer that computes the codes, and the outputs of "class" `class` and `probabilities`; of several
    outputs like the output, those of "class" with its name in front (`box_class`).

    Raises TypeError for a layer that has no TFLite operator, ValueError for an option outside its set, a
    layer that is used twice, or outputs that are not what `output_type` needs.
    """
    given = input_type if isinstance(input_type, Mapping) else dict.fromkeys(folded.input_names, input_type)
    for one in given.values():
        _check_option("input_type", one, INPUT_TYPES)
    ends = file_ends(folded, output_type, task, output_names)
    writer = GraphWriter()
    nodes = _nodes(folded)
    shapes = {name: _shape(name, node.output_shapes) for name, node in nodes.items()}
    grids = {layer.name: layer.output_grid for layer in folded.layers if hasattr(layer, "output_grid")}
    context = Context(writer, shapes, grids, packed_as_matrix_product)
    inputs, produced = {}, {}
    in_front = _in_front_of_the_file(folded, nodes)
    for layer in folded.layers:
        if layer.name in in_front:
            continue
        sources = [tensor._keras_history.layer for tensor in nodes[layer.name].keras_inputs]
        if isinstance(layer, QuantizeInput):
            name = _image_name(nodes, layer.name)
            if given[name] == "float32":
                _check_float_input(layer, _in_front_of(layer.name, nodes))
            inputs[name], produced[layer.name] = write_input(context, name, layer, given[name])
        elif isinstance(layer, Dequantize):
            continue  # `output_type` decides what comes after the codes.
        elif type(layer) in WRITERS:
            index = context.codes(layer)
            WRITERS[type(layer)](context, layer, [produced[source.name] for source in sources], index)
            produced[layer.name] = index
        else:
            raise TypeError(
                f"layer {layer.name!r} is a {type(layer).__name__}, which is no integer layer. Pass a model "
                f"made by mmx_tf.fold; known layers: {sorted(known.__name__ for known in WRITERS)}."
            )
    outputs = write_outputs(context, ends, produced)
    floats = {end.layer for end in ends if end.output_type == "float32"}
    floats |= {name for name, one in given.items() if one == "float32"}
    _check_no_float(writer, floats | context.float_tensors)
    # In the order of the network's inputs.
    inputs = {name: inputs[name] for name in folded.input_names}
    return writer.finish(inputs, outputs, metadata=metadata)


def _check_float_input(layer: QuantizeInput, in_front: list) -> None:
    """Refuses (ValueError) a float32 input for what is no float image in the file."""
    if isinstance(layer, QuantizePixels):
        raise ValueError(
            "the network's input are pixels, whose grid no float32 image has. Use input_type 'uint8' (the "
            "pixels) or 'int8' (the pixels less 128)."
        )
    rescalings = [one.name for one in in_front if one.get_config().get("scale")]
    if rescalings:
        raise ValueError(
            f"the network rescales its image ({rescalings[0]!r}), which stays in front of the file: a "
            "float32 input would be taken for the rescaled image. Use input_type 'uint8' or 'int8', "
            "whose codes are those of the rescaled image."
        )


def _check_option(name, value, allowed):
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; use one of {', '.join(map(repr, allowed))}.")


def _in_front_of_the_file(folded, nodes):
    """Names of the input layers and of what lies between them and `QuantizeInput` (the image's rescaling)."""
    entries = [layer.name for layer in folded.layers if isinstance(layer, QuantizeInput)]
    return {layer.name for entry in entries for layer in _in_front_of(entry, nodes)}


def _in_front_of(entry, nodes) -> list:
    """The layers that a `QuantizeInput` depends on."""
    found, pending = {}, [entry]
    while pending:
        sources = {
            one.name: one for one in (t._keras_history.layer for t in nodes[pending.pop()].keras_inputs)
        }
        pending += sources.keys() - found.keys()
        found |= sources
    return list(found.values())


def _image_name(nodes, name):
    """Name of the input layer that the image comes from; its rescaling may be in between."""
    while nodes[name].keras_inputs:
        (source,) = {tensor._keras_history.layer.name for tensor in nodes[name].keras_inputs}
        if source not in nodes or not nodes[source].keras_inputs:
            return source
        name = source
    return name


def _nodes(folded):
    """dict from layer name to its one node in this model; the layer may have others in other models."""
    nodes = {}
    for node in (node for depth in folded._nodes_by_depth.values() for node in depth):
        if nodes.setdefault(node.layer.name, node) is not node:
            raise ValueError(
                f"layer {node.layer.name!r} is used more than once; each integer layer is one operator. "
                "Make one layer per use."
            )
    return nodes


def _shape(name, shape):
    # An input layer's node gives a list of one shape.
    shape = shape[0] if isinstance(shape, list) else shape
    if None in shape[1:]:
        raise ValueError(f"layer {name!r} has output shape {shape}; only the batch may be unknown.")
    return tuple(shape[1:])


def _check_no_float(writer, allowed):
    floats = set(writer.tensors_of_type(TensorType.FLOAT32))
    if floats - allowed:
        raise ValueError(f"float tensors inside the file: {sorted(floats - allowed)}. Fold the model again.")
