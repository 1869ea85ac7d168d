"""How activations become TFLite operators: the part of `operators` that knows curves and constants.

`ACTIVATION_WRITERS` maps a layer class to a function (context, layer, input tensor indices, output tensor
index), as `operators.WRITERS` does.
"""

from ai_edge_litert import schema_py_generated as schema

from mmx_tf.export.writing.flatbuffer import quantization
from mmx_tf.layers.integer import curves, factors
from mmx_tf.layers.quantizers import gates

Builtin, TensorType = schema.BuiltinOperator, schema.TensorType


def _table(builtin, *, version):
    def write(context, layer, inputs, output):
        context.writer.operator(builtin, inputs, [output], version=version)

    return write


def _factor(context, layer, inputs, output):
    grid = quantization([layer.factor_grid.scale], [layer.factor_grid.zero_point])
    codes = layer.codes.numpy()
    constant = context.constant(f"{layer.name}/factors", codes, TensorType.INT8, quantization=grid)
    options = schema.MulOptionsT()
    context.writer.operator(Builtin.MUL, [*inputs, constant], [output], options=options, version=2)


ACTIVATION_WRITERS = {
    gates.IntegerLogistic: _table(Builtin.LOGISTIC, version=2),
    curves.IntegerTanh: _table(Builtin.TANH, version=2),
    curves.IntegerElu: _table(Builtin.ELU, version=1),
    factors.IntegerFactor: _factor,
}
