"""How activations become TFLite operators: the part of `operators` that knows curves and constants.

`ACTIVATION_WRITERS` maps a layer class to a function (context, layer, input tensor indices, output tensor
index), as `operators.WRITERS` does.
"""

from ai_edge_litert import schema_py_generated as schema

from mmx_tf.export.writing.flatbuffer import quantization
from mmx_tf.layers.integer import curves, factors, smooth, softmax
from mmx_tf.layers.quantizers import gates

Builtin, TensorType = schema.BuiltinOperator, schema.TensorType


def _table(builtin, *, version):
    def write(context, layer, inputs, output):
        context.writer.operator(builtin, inputs, [output], version=version)

    return write


def _curve(context, layer, inputs, output):
    """DEQUANTIZE, the curve's float operators, QUANTIZE."""
    value = context.float_tensor(layer, "real")
    context.writer.operator(Builtin.DEQUANTIZE, inputs, [value], version=2)
    for index, step in enumerate(layer.steps):
        name = f"{step.kind.lower()}_{index}"
        operands = [value]
        if step.constant is not None:
            constant = context.constant(f"{layer.name}/{name}_by", [step.constant], TensorType.FLOAT32)
            operands.insert(0 if step.constant_first else 1, constant)
        value = context.float_tensor(layer, name)
        context.writer.operator(getattr(Builtin, step.kind), operands, [value], options=_options(step))
    context.writer.operator(Builtin.QUANTIZE, [value], [output], options=schema.QuantizeOptionsT())


def _softmax(context, layer, inputs, output):
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    context.writer.operator(Builtin.SOFTMAX, inputs, [output], options=options, version=2)


def _options(step):
    """The operator's options, or None for one that has none."""
    if step.kind not in _OPTIONS:
        return None
    options = _OPTIONS[step.kind]()
    for field, value in step.options.items():
        setattr(options, field, value)
    return options


_OPTIONS = {
    "ADD": schema.AddOptionsT,
    "ABS": schema.AbsOptionsT,
    "DIV": schema.DivOptionsT,
    "EXP": schema.ExpOptionsT,
    "GELU": schema.GeluOptionsT,
    "LEAKY_RELU": schema.LeakyReluOptionsT,
    "MAXIMUM": schema.MaximumMinimumOptionsT,
    "MINIMUM": schema.MaximumMinimumOptionsT,
    "MUL": schema.MulOptionsT,
    "SUB": schema.SubOptionsT,
}


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
    smooth.IntegerCurve: _curve,
    factors.IntegerFactor: _factor,
    softmax.IntegerSoftmax: _softmax,
}
