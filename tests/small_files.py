"""Small files on random grids, LiteRT's three ways to run one, and their comparison with the reference."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from mmx_tf.export import reference
from mmx_tf.export.writing.flatbuffer import GraphWriter, packed, quantization

Builtin, TensorType = schema.BuiltinOperator, schema.TensorType
Activation = schema.ActivationFunctionType
NONE, RELU, RELU6, RELU_N1_TO_1 = Activation.NONE, Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
RESOLVERS = {
    "xnnpack": OpResolverType.AUTO,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}


def run_litert(data, inputs, rules):
    """Output tensors of the file in LiteRT, by name; `rules` picks the kernels."""
    interpreter = Interpreter(
        model_content=data, num_threads=1, experimental_op_resolver_type=RESOLVERS[rules]
    )
    for detail in interpreter.get_input_details():
        interpreter.resize_tensor_input(detail["index"], inputs[detail["name"]].shape)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], inputs[detail["name"]])
    interpreter.invoke()
    return {d["name"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()}


def assert_equal_to_litert(data, inputs, compared=reference.RULES):
    """Every code that the reference interpreter outputs is LiteRT's -> dict from rules to outputs by name."""
    graph, computed = reference.load(data), {}
    for rules in compared:
        tensors = reference.run(graph, inputs, rules=rules)
        computed[rules] = {}
        for name, want in run_litert(data, inputs, rules).items():
            got = computed[rules][name] = tensors[name]
            assert got.dtype == want.dtype and got.shape == want.shape
            differing = np.count_nonzero(got != want)
            assert not differing, f"{rules}: {differing} of {want.size} codes of {name} differ"
    return computed


def random_codes(rng, shape, dtype=np.int8):
    """Codes over the whole range of the type."""
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def options(name, **fields):
    """An options object of the schema: options("Add", fusedActivationFunction=1)."""
    result = getattr(schema, f"{name}OptionsT")()
    for field, value in fields.items():
        assert hasattr(result, field), field
        setattr(result, field, value)
    return result


class Net:
    """Builds a small file; grids that are not given are drawn, so that no two are rationally related."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.writer = GraphWriter()
        self.inputs = {}

    def scale(self, low, high):
        return float(np.float32(np.exp(self.rng.uniform(np.log(low), np.log(high)))))

    def zero_point(self):
        return int(self.rng.integers(-128, 128))

    def tensor(self, name, shape, *, scale=None, zero_point=None, dtype=TensorType.INT8):
        grid = None
        if dtype != TensorType.FLOAT32:
            scale = self.scale(0.01, 0.5) if scale is None else scale
            grid = quantization([scale], [self.zero_point() if zero_point is None else zero_point])
        return self.writer.tensor(name, (1, *shape), dtype, quantization=grid, dynamic_batch=True)

    def input(self, name, shape, **kwargs):
        self.inputs[name] = self.tensor(name, shape, **kwargs)
        return self.inputs[name]

    def constant(self, name, values, dtype, *, scales=None, zero_points=None, axis=None):
        grid = None
        if scales is not None:
            zero_points = np.zeros(len(scales)) if zero_points is None else zero_points
            grid = quantization(scales, zero_points, axis=axis)
        if dtype == TensorType.INT4:
            data = packed(values, bits=4)
        else:
            data = np.asarray(values, {TensorType.INT8: np.int8, TensorType.INT32: np.int32}[dtype]).tobytes()
        return self.writer.tensor(name, np.shape(values), dtype, quantization=grid, data=data)

    def weights(self, name, shape, *, axis, source_scale, bits=8, dtype=TensorType.INT8, per_channel=True):
        """(weights, bias, scales): random codes of `bits`; `axis` is the channel's."""
        high = 2 ** (bits - 1) - 1
        codes = self.rng.integers(-high, high + 1, shape)
        count = shape[axis] if per_channel else 1
        scales = np.array([self.scale(0.005, 0.05) for _ in range(count)], np.float32)
        weights = self.constant(f"{name}/w", codes, dtype, scales=scales, axis=axis)
        size = np.sqrt(np.prod(shape) / shape[axis]) * 50 * high
        bias = self.rng.integers(-size, size + 1, shape[axis])
        grid = np.float32(source_scale) * scales
        return weights, self.constant(f"{name}/b", bias, TensorType.INT32, scales=grid), scales

    def operator(self, kind, inputs, output, *, options=None, version=1):
        self.writer.operator(getattr(Builtin, kind), inputs, [output], options=options, version=version)
        return output

    def file_of(self, kind, inputs, output, **kwargs):
        """The bytes of a file whose one operator this is."""
        return self.finish(self.operator(kind, inputs, output, **kwargs))

    def finish(self, *outputs):
        return self.writer.finish(self.inputs, {f"output_{index}": index for index in outputs})
