"""What a writer of operators is given, and how it is registered beside its code.

    @writes(IntegerConcatenate)
    def concatenate(context, layer, inputs, output):
        context.writer.operator(Builtin.CONCATENATION, inputs, [output], options=..., version=2)

`inputs` are the indices of the layer's input tensors, `output` that of its codes. Operator versions are the
lowest that define the int8 form. `Builtin`, `TensorType`, `ACTIVATIONS` and `PADDINGS` are the schema's
numbers, which writers share.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mmx_tf.export.writing.flatbuffer import GraphWriter, packed, quantization

Builtin, TensorType = schema.BuiltinOperator, schema.TensorType
ACTIVATIONS = {
    "linear": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
    "relu_n1_to_1": schema.ActivationFunctionType.RELU_N1_TO_1,
}
PADDINGS = {"same": schema.Padding.SAME, "valid": schema.Padding.VALID}
WRITERS: dict[type, Callable] = {}
"""Class of an integer layer -> its writer."""


def writes(*layer_classes: type) -> Callable:
    """A decorator of the function that writes the operator of these classes of integer layers."""

    def register(function):
        WRITERS.update(dict.fromkeys(layer_classes, function))
        return function

    return register


@dataclass(frozen=True)
class Context:
    """What a writer needs.

    Attributes:
      writer: the graph writer.
      shapes: each layer's output shape without the batch dimension.
      grids: each layer's output grid; layers that give no codes have none.
      packed_as_matrix_product: see `export.writing.tflite.convert`.
      float_tensors: names of the float tensors inside of curves, as they are added.
    """

    writer: GraphWriter
    shapes: dict
    grids: dict
    packed_as_matrix_product: bool = True
    float_tensors: set = field(default_factory=set)

    def constant(self, name, values, dtype, **kwargs):
        """Add a constant from an array -> tensor index. dtype: INT2, INT4, INT8, INT32, FLOAT32."""
        bits = {TensorType.INT2: 2, TensorType.INT4: 4}.get(dtype)
        numpy_type = {TensorType.INT32: np.int32, TensorType.FLOAT32: np.float32}.get(dtype, np.int8)
        if dtype == TensorType.FLOAT32:
            self.float_tensors.add(name)
        data = packed(values, bits=bits) if bits else np.ascontiguousarray(values, numpy_type).tobytes()
        return self.writer.tensor(name, np.shape(values), dtype, data=data, **kwargs)

    def codes(self, layer, *, name=None, unsigned=False):
        """Add the int8 tensor of a layer's output codes -> its index.

        name: the tensor's, if it is not the layer's. unsigned: the same codes plus 128, as uint8.
        """
        grid, shift = layer.output_grid, 128 if unsigned else 0
        return self.writer.tensor(
            name or layer.name,
            (1, *self.shapes[layer.name]),
            TensorType.UINT8 if unsigned else TensorType.INT8,
            quantization=quantization([grid.scale], [grid.zero_point + shift]),
            dynamic_batch=True,
        )

    def float_tensor(self, layer, part):
        """Add a float tensor inside of a layer, of the shape of its output -> its index."""
        name = f"{layer.name}/{part}"
        self.float_tensors.add(name)
        return self.writer.tensor(name, (1, *self.shapes[layer.name]), TensorType.FLOAT32, dynamic_batch=True)

    def weights(self, layer, codes, *, axis):
        """Add weights (`codes` in TFLite's layout) and bias of a layer -> their tensor indices."""
        scales = layer.weight_scales.numpy()
        bias_scales = np.float32(layer.input_grid.scale) * scales
        zeros = np.zeros(len(scales), np.int64)
        dtype = getattr(TensorType, layer.container.upper())
        weight_grid = quantization(scales, zeros, axis=axis)
        bias_grid = quantization(bias_scales, zeros)
        bias = layer.bias_codes.numpy()
        return [
            self.constant(f"{layer.name}/weights", codes, dtype, quantization=weight_grid),
            self.constant(f"{layer.name}/bias", bias, TensorType.INT32, quantization=bias_grid),
        ]
