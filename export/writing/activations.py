"""How activations become TFLite operators: curves, tables and constants."""

from ai_edge_litert import schema_py_generated as schema

from mmx_tf.export.writing.context import Builtin, TensorType, writes
from mmx_tf.export.writing.flatbuffer import quantization
from mmx_tf.layers.integer import curves, factors, smooth, softmax
from mmx_tf.layers.quantizers import gates


@writes(gates.IntegerLogistic)
def _logistic(context, layer, inputs, output):
    context.writer.operator(Builtin.LOGISTIC, inputs, [output], version=2)


@writes(curves.IntegerTanh)
def _tanh(context, layer, inputs, output):
    context.writer.operator(Builtin.TANH, inputs, [output], version=2)


@writes(curves.IntegerElu)
def _elu(context, layer, inputs, output):
    context.writer.operator(Builtin.ELU, inputs, [output])


@writes(smooth.IntegerCurve)
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


@writes(softmax.IntegerSoftmax)
def _softmax(context, layer, inputs, output):
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    context.writer.operator(Builtin.SOFTMAX, inputs, [output], options=options, version=2)


def _options(step):
    """The operator's options, or None for one that has none."""
    name = _OPTIONS.get(step.kind, step.kind.title().replace("_", ""))
    if not hasattr(schema, f"{name}OptionsT"):
        return None
    options = getattr(schema, f"{name}OptionsT")()
    for field, value in step.options.items():
        setattr(options, field, value)
    return options


_OPTIONS = {"MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum"}
"""What the schema calls the options of an operator, where that is not the operator's name."""


@writes(factors.IntegerFactor)
def _factor(context, layer, inputs, output):
    grid = quantization([layer.factor_grid.scale], [layer.factor_grid.zero_point])
    codes = layer.codes.numpy()
    constant = context.constant(f"{layer.name}/factors", codes, TensorType.INT8, quantization=grid)
    options = schema.MulOptionsT()
    context.writer.operator(Builtin.MUL, [*inputs, constant], [output], options=options, version=2)
