"""What the functions that write an operator share: the graph, the tensors written so far, Quant nodes."""

import numpy as np

from mmx_tf.export.c_source.pointwise import CODES, pointwise
from mmx_tf.export.qonnx.graph_builder import GraphBuilder, Value
from mmx_tf.export.qonnx.intervals import code_ranges
from mmx_tf.export.qonnx.stored import Stored, onnx_shape, signed_type, stored_as, to_onnx

FORMS = ("quant", "thresholds")
"""How codes are rounded and clipped: float32 multipliers and Quant, or integer thresholds."""
INT32_LIMIT = 2**31
FLOAT32_EXACT = 2**24
"""Integers of a smaller magnitude are exact in float32, and so are their sums."""


class Exporter:
    """A graph in the making.

    Args:
      graph: a checked `reference.Graph`.
      layer_bits: (activation bits, weight bits) by index of the weighted operators whose operations count.
      form: one of `FORMS`.
      batch: images of a run.

    Attributes:
      stored: `Stored` of every tensor of codes that is no constant, by name.
      values: `Value` of every tensor written so far, by name.
      tables: `pointwise` of the graph.
      readers: the operators that read a tensor, by its name.
      requantized: `Value`s of tensors in other bits, by name and bits.
      folded: (input, amounts) of paddings that their convolutions do, by name of the padded tensor.
    """

    def __init__(self, graph, layer_bits, *, form: str, batch: int):
        self.graph, self.layer_bits, self.form, self.batch = graph, layer_bits, form, batch
        self.builder = GraphBuilder()
        self.tables = pointwise(graph)
        found = code_ranges(graph, self.tables)
        bits, readers = {}, {}
        for operator in graph.operators:
            for tensor in operator.inputs:
                if tensor is not None:
                    readers.setdefault(tensor.name, []).append(operator)
                    if operator.index in layer_bits and tensor.type in CODES and tensor.constant is None:
                        bits[tensor.name] = max(bits.get(tensor.name, 0), layer_bits[operator.index][0])
        self.readers, self.requantized, self.folded = readers, {}, {}
        self.tensors = {tensor.name: tensor for tensor in graph.tensors}
        inputs = {tensor.name for tensor in graph.inputs}
        self.stored = {
            name: stored_as(self.tensors[name], *codes, bits=bits.get(name, 0), raw=name in inputs)
            for name, codes in found.items()
        }
        self.values: dict[str, Value] = {}
        for tensor in graph.inputs:
            self.values[tensor.name] = self.builder.input(
                tensor.name, self.shape(tensor), datatype=self.stored[tensor.name].datatype
            )

    def shape(self, tensor) -> tuple[int, ...]:
        """The shape of an activation in the graph."""
        return onnx_shape((self.batch, *tensor.shape[1:]))

    def at_offset(self, name: str, offset: int) -> Value:
        """A tensor of codes minus `offset`, which need not be that of its `Stored`."""
        value, by = self.values[name], self.stored[name].offset - offset
        if not by:
            return value
        added = self.builder.constant(f"{name}/by", by, datatype=signed_type(by, by))
        low, high = (end + by for end in self.stored[name].span)
        return self.builder.node(
            "Add", [value, added], value.shape, name=f"{name}/moved", datatype=signed_type(low, high)
        )

    def shifted(self, tensor, rank: int) -> tuple[Value, int, tuple[int, int]]:
        """An operand of an operator on codes.

        Returns:
          (value, zero, (lowest, highest)): the code minus the zero point is value - zero, and value is in
          this range. A constant has `rank` axes.
        """
        if tensor.constant is None:
            stored = self.stored[tensor.name]
            return self.values[tensor.name], stored.zero, stored.span
        codes = tensor.constant.astype(np.int64) - tensor.zero_point
        codes = to_onnx(codes.reshape((1,) * (rank - codes.ndim) + codes.shape))
        span = int(codes.min()), int(codes.max())
        return self.builder.constant(tensor.name, codes, datatype=signed_type(*span)), 0, span

    def quant(self, value: Value, stored: Stored, name: str, *, rounding: str = "ROUND") -> Value:
        """A QONNX Quant of scale 1: rounds half to even, saturates, and says how many bits there are."""
        return self.quant_of(
            value, name, bits=stored.bits, signed=stored.signed, datatype=stored.datatype, rounding=rounding
        )

    def quant_of(self, value, name, *, bits, signed, datatype, narrow=False, rounding="ROUND") -> Value:
        """As `quant`, of any integer."""
        one, zero, width = (
            self.builder.constant(f"{name}/{what}", number)
            for what, number in (("scale", 1), ("zero_point", 0), ("bits", bits))
        )
        return self.builder.node(
            "Quant",
            [value, one, zero, width],
            value.shape,
            name=name,
            datatype=datatype,
            signed=int(signed),
            narrow=int(narrow),
            rounding_mode=rounding,
        )
