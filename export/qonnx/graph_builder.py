"""An ONNX graph in the making: nodes, constants, shapes, and the bit-widths that QONNX keeps beside tensors.

    builder = GraphBuilder()
    image = builder.input("image", (1, 3, 96, 96), datatype="UINT8")
    codes = builder.node("Relu", [image], image.shape, name="codes", datatype="UINT8")
    builder.model([codes], {"mmx_tf.version": "0.1.0"})

Integers are in float32 tensors, as everywhere in QONNX; `datatype` says which they are.
"""

from dataclasses import dataclass

import numpy as np

from mmx_tf.export.qonnx.packages import imported

OPSET = 11
"""Of the standard operators: what qonnx and FINN work with."""
IR_VERSION = 8
"""Of the file format: new enough for annotations, old enough for the onnx package of FINN."""
CUSTOM_DOMAIN = "qonnx.custom_op.general"
_CUSTOM = ("MultiThreshold", "Quant")


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the ONNX graph.

    Attributes:
      name: in the graph.
      shape: all dimensions, the batch first.
      dtype: numpy type of the tensor that holds it.
      datatype: QONNX's name of the integers in it, such as "UINT4"; None for real numbers.
    """

    name: str
    shape: tuple[int, ...]
    dtype: type[np.generic] = np.float32
    datatype: str | None = None


class GraphBuilder:
    """Collects the parts of a graph in the order of computation."""

    def __init__(self):
        self._onnx = imported("onnx")
        self._nodes, self._constants, self._inputs, self._inner = [], [], [], []
        self._datatypes, self._names = {}, set()

    def input(self, name: str, shape, *, datatype: str) -> Value:
        """Adds an input of float32."""
        value = self._value(name, shape, np.float32, datatype)
        self._inputs.append(value)
        return value

    def constant(self, name: str, values, *, dtype=np.float32, datatype: str | None = None) -> Value:
        """Adds a constant."""
        values = np.asarray(values, dtype)
        value = self._value(name, values.shape, dtype, datatype)
        self._constants.append(self._onnx.numpy_helper.from_array(values, value.name))
        return value

    def node(self, kind, inputs, shape, *, name, dtype=np.float32, datatype=None, **attributes) -> Value:
        """Adds a node -> its (first) output.

        Args:
          kind: the operator's name in ONNX or QONNX.
          inputs: `Value`s; None for an optional one that is left out.
          shape: of the output.
          name: of node and output; a number is added where it is taken.
          dtype, datatype: of the output, see `Value`.
          attributes: of the node.
        """
        value = self._value(name, shape, dtype, datatype)
        self._inner.append(value)
        node = self._onnx.helper.make_node(
            kind,
            ["" if one is None else one.name for one in inputs],
            [value.name],
            name=value.name,
            domain=CUSTOM_DOMAIN if kind in _CUSTOM else "",
            **attributes,
        )
        self._nodes.append(node)
        return value

    def type_number(self, dtype) -> int:
        """ONNX's number of a numpy type."""
        return self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def model(self, outputs, metadata: dict[str, str]):
        """The `onnx.ModelProto` whose outputs are these `Value`s, in their order."""
        helper, chosen = self._onnx.helper, {value.name for value in outputs}
        graph = helper.make_graph(
            self._nodes,
            "mmx_tf",
            list(map(self._info, self._inputs)),
            list(map(self._info, outputs)),
            initializer=self._constants,
            value_info=[self._info(value) for value in self._inner if value.name not in chosen],
        )
        for name, datatype in self._datatypes.items():
            entry = self._onnx.StringStringEntryProto(key="finn_datatype", value=datatype)
            graph.quantization_annotation.append(
                self._onnx.TensorAnnotation(tensor_name=name, quant_parameter_tensor_names=[entry])
            )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CUSTOM_DOMAIN, 1)]
        model = helper.make_model(graph, producer_name="mmx_tf", opset_imports=opsets, ir_version=IR_VERSION)
        helper.set_model_props(model, metadata)
        return model

    def _value(self, name, shape, dtype, datatype):
        # ONNX reads an empty name as an input that is left out.
        unique, number = name or "tensor", 1
        while unique in self._names:
            number += 1
            unique = f"{name or 'tensor'}_{number}"
        self._names.add(unique)
        if datatype is not None:
            self._datatypes[unique] = datatype
        return Value(unique, tuple(int(size) for size in shape), dtype, datatype)

    def _info(self, value):
        helper = self._onnx.helper
        return helper.make_tensor_value_info(value.name, self.type_number(value.dtype), value.shape)
