"""What each activation costs in an exported file beside an int8 ReLU, and which operators could compute it.

    python -m benchmarks.activations --json=results/export/activations.json

`networks`: two pointwise convolutions on 56x56x96 with the activation between, exported as any network is;
the reference has a ReLU, which its convolution fuses. `operators`: one activation alone on a tensor of that
size; the reference is a ReLU of its own (a multiplication by 1). Beside those that are exported stand others
that were not chosen. All run on one thread of LiteRT's default interpreter, interleaved.
"""

import sys

import numpy as np
import tensorflow as tf
import tf_keras as keras
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

import mmx_tf
from benchmarks import command_line, measuring
from mmx_tf.export.running.partitions import delegated_ops
from mmx_tf.export.writing.flatbuffer import GraphWriter, quantization

MODULE = "benchmarks.activations"
SHAPE = (56, 56, 96)
Builtin, TensorType = schema.BuiltinOperator, schema.TensorType
layers = keras.layers


def slopes(**options):
    """A PReLU whose slopes are no zeros."""
    return layers.PReLU(alpha_initializer=keras.initializers.RandomUniform(0.0, 0.5, seed=1), **options)


NETWORKS = {
    "ReLU": layers.ReLU(),
    "ReLU up to 1": layers.ReLU(1.0),
    "ReLU above 0.1": layers.ReLU(threshold=0.1),
    "LeakyReLU": layers.LeakyReLU(0.1),
    "PReLU per channel": slopes(shared_axes=[1, 2]),
    "PReLU per element": slopes(),
    "sigmoid": layers.Activation("sigmoid"),
    "hard_sigmoid": layers.Activation("hard_sigmoid"),
    "swish": layers.Activation("swish"),
    "hard-swish": lambda x: x * tf.nn.relu6(x + 3.0) / 6.0,
    "tanh": layers.Activation("tanh"),
    "ELU": layers.ELU(),
    "ELU of alpha 0.5": layers.ELU(0.5),
    "SELU": layers.Activation("selu"),
    "GELU": layers.Activation("gelu"),
    "approximate GELU": lambda x: tf.nn.gelu(x, approximate=True),
    "mish": layers.Activation("mish"),
    "softplus": layers.Activation("softplus"),
    "softsign": layers.Activation("softsign"),
    "exponential": layers.Activation("exponential"),
    "softmax": layers.Softmax(),
}


def network_file(activation) -> bytes:
    """The file of two pointwise convolutions with the activation between, of 4 bits behind it."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    x = activation(layers.Conv2D(SHAPE[-1], 1, name="first")(inputs))
    x = layers.Conv2D(SHAPE[-1], 1, activation="relu", name="second")(x)
    network = keras.Model(inputs, layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(x)))
    search = mmx_tf.augment(network, bit_widths=(8, 4), target_average_bits=4)
    search(np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32), branch=1)
    fixed = mmx_tf.rebuild(search, search.selection_of([1] * len(search.quantizers)))
    fixed(np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32))
    return mmx_tf.convert(mmx_tf.fold(fixed), input_type="int8")


class Chain:
    """A file of a few operators on one int8 tensor."""

    def __init__(self):
        self.writer = GraphWriter()
        self.x = self.codes("x", 0.05, 0)

    def codes(self, name, scale, zero_point, dtype=TensorType.INT8) -> int:
        """Adds a tensor of the benchmark's size."""
        grid = (
            None if dtype in (TensorType.FLOAT32, TensorType.INT32) else quantization([scale], [zero_point])
        )
        return self.writer.tensor(name, (1, *SHAPE), dtype, quantization=grid, dynamic_batch=True)

    def constant(self, name, values, dtype, *, scale=None) -> int:
        """Adds a constant."""
        grid = None if scale is None else quantization([scale], [0])
        return self.writer.tensor(name, values.shape, dtype, data=values.tobytes(), quantization=grid)

    def operator(self, kind, inputs, output, *, options=None, version=1, **fields) -> int:
        """Adds an operator with fields of its options set -> its output."""
        chosen = getattr(schema, f"{options}OptionsT")() if options else None
        for field, value in fields.items():
            setattr(chosen, field, value)
        self.writer.operator(getattr(Builtin, kind), inputs, [output], options=chosen, version=version)
        return output

    def multiplied(self, x, name, factors, scale, grid, relu=False) -> int:
        """MUL by int8 constants."""
        constant = self.constant(f"{name}/by", np.asarray(factors, np.int8), TensorType.INT8, scale=scale)
        output = self.codes(name, *grid)
        return self.operator(
            "MUL", [x, constant], output, options="Mul", version=2, fusedActivationFunction=int(relu)
        )

    def between_floats(self, *steps) -> int:
        """DEQUANTIZE, the steps (kind, options, fields), QUANTIZE."""
        value = self.operator("DEQUANTIZE", [self.x], self.codes("real", 0, 0, TensorType.FLOAT32), version=2)
        for index, (kind, options, fields) in enumerate(steps):
            by = (
                [self.constant("slopes", np.float32(fields.pop("by")), TensorType.FLOAT32)]
                if "by" in fields
                else []
            )
            output = self.codes(f"step{index}", 0, 0, TensorType.FLOAT32)
            value = self.operator(kind, [value, *by], output, options=options, **fields)
        return self.operator("QUANTIZE", [value], self.codes("y", 0.03, -100), options="Quantize")

    def file(self, output) -> bytes:
        """The bytes of the file."""
        return self.writer.finish({"x": self.x}, {"y": output})


def _single(kind, options=None, grid=(0.03, -100), version=1, **fields):
    def build():
        chain = Chain()
        output = chain.codes("y", *grid)
        return chain.file(chain.operator(kind, [chain.x], output, options=options, version=version, **fields))

    return build


def _relu():
    chain = Chain()
    return chain.file(chain.multiplied(chain.x, "y", [1], 1.0, (0.03, -128), relu=True))


def _leaky():
    chain = Chain()
    side = chain.multiplied(chain.x, "side", [-1], 0.9, (0.05 * 0.9, -128))
    return chain.file(
        chain.operator("ADD", [chain.x, side], chain.codes("y", 0.03, -100), options="Add", version=2)
    )


def _leaky_and_multiplication():
    chain = Chain()
    same = chain.operator(
        "LEAKY_RELU", [chain.x], chain.codes("same", 0.05, 0), options="LeakyRelu", version=2, alpha=0.1
    )
    return chain.file(chain.multiplied(same, "y", [1], 1.0, (0.03, -100)))


def _prelu():
    chain = Chain()
    factors = np.arange(SHAPE[-1]).reshape(1, 1, 1, -1)
    positive = chain.multiplied(chain.x, "positive", [1], 1.0, (0.03, -128))
    negative = chain.multiplied(chain.x, "negative", factors, 0.004, (0.03, 127))
    output = chain.codes("y", 0.03, -100)
    return chain.file(chain.operator("ADD", [positive, negative], output, options="Add", version=2))


def _prelu_operator():
    chain = Chain()
    factors = np.arange(SHAPE[-1], dtype=np.int8).reshape(1, 1, -1)
    by = chain.constant("slopes", factors, TensorType.INT8, scale=0.004)
    return chain.file(chain.operator("PRELU", [chain.x, by], chain.codes("y", 0.03, -100)))


def _swish():
    chain = Chain()
    gate = chain.operator("LOGISTIC", [chain.x], chain.codes("gate", 1 / 256, -128), version=2)
    output = chain.codes("y", 0.03, -100)
    return chain.file(chain.operator("MUL", [chain.x, gate], output, options="Mul", version=2))


def _gather():
    chain = Chain()
    shifted = chain.codes("shifted", 0.05, 128, TensorType.UINT8)
    shifted = chain.operator("QUANTIZE", [chain.x], shifted, options="Quantize", version=2)
    types = {"inDataType": TensorType.UINT8, "outDataType": TensorType.INT32}
    places = chain.codes("places", 0, 0, TensorType.INT32)
    places = chain.operator("CAST", [shifted], places, options="Cast", **types)
    table = chain.constant("table", np.arange(-128, 128).astype(np.int8), TensorType.INT8, scale=0.03)
    output = chain.codes("y", 0.03, 0)
    return chain.file(chain.operator("GATHER", [table, places], output, options="Gather", version=2, axis=0))


def _floats(*steps):
    def build():
        chain = Chain()
        return chain.file(
            chain.between_floats(*((kind, options, dict(fields)) for kind, options, fields in steps))
        )

    return build


OPERATORS = {
    "ReLU: MUL by 1": _relu,
    "LeakyReLU: MUL, ADD": _leaky,
    "LeakyReLU: LEAKY_RELU (not exact)": _single("LEAKY_RELU", "LeakyRelu", version=2, alpha=0.1),
    "LeakyReLU: LEAKY_RELU, MUL (slope in 1/256)": _leaky_and_multiplication,
    "PReLU: MUL, MUL, ADD": _prelu,
    "PReLU: PRELU": _prelu_operator,
    "PReLU: float PRELU": _floats(("PRELU", None, {"by": np.full((1, 1, SHAPE[-1]), 0.2)})),
    "tanh: TANH": _single("TANH", grid=(1 / 128, 0), version=2),
    "sigmoid: LOGISTIC": _single("LOGISTIC", grid=(1 / 256, -128), version=2),
    "ELU: ELU": _single("ELU"),
    "swish: LOGISTIC, MUL": _swish,
    "hard-swish: HARD_SWISH": _single("HARD_SWISH"),
    "GELU: GELU": _single("GELU", "Gelu", version=2, approximate=False),
    "GELU: float GELU": _floats(("GELU", "Gelu", {"approximate": False})),
    "exponential: EXP": _single("EXP", "Exp", grid=(0.03, -128), version=2),
    "exponential: float EXP": _floats(("EXP", "Exp", {})),
    "softmax: SOFTMAX": _single("SOFTMAX", "Softmax", grid=(1 / 256, -128), version=2, beta=1.0),
    "any table: CAST, GATHER": _gather,
}


def runner(data: bytes):
    """A function without arguments that runs the file on random codes."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    codes = np.random.default_rng(0).integers(-128, 128, entry["shape"]).astype(np.int8)
    interpreter.set_tensor(entry["index"], codes)
    return interpreter.invoke


def measured(files: dict[str, bytes], *, rounds: int, calls: int) -> dict[str, dict]:
    """Times of one call beside the first file's, and what of each file XNNPACK leaves."""
    functions = {name: runner(data) for name, data in files.items()}
    measuring.interleaved(functions, rounds=2, calls=calls)
    seconds = measuring.interleaved(functions, rounds=rounds, calls=calls)
    summary = measuring.summarized(seconds, reference=next(iter(files)))
    for name, data in files.items():
        delegation = delegated_ops(data)
        summary[name]["partitions"] = delegation.partitions
        summary[name]["left_outside"] = [kind for _, kind in delegation.left_outside]
    return summary


def main(argv: list[str] | None = None) -> int:
    """Measures and prints both tables; returns the exit code."""
    parser = command_line.argument_parser(MODULE, __doc__, rounds=60)
    command_line.add_choice(parser, "--only", NETWORKS)
    options = parser.parse_args(argv)
    names = [name for name in NETWORKS if name in {"ReLU", *options.only}]
    networks = {name: network_file(NETWORKS[name]) for name in names}
    operators = {name: build() for name, build in OPERATORS.items()}
    results = {
        "networks": measured(networks, rounds=options.rounds, calls=2),
        "operators": measured(operators, rounds=options.rounds, calls=4),
    }
    for title, summary in results.items():
        print(measuring.table(title, summary))
    command_line.write_results(MODULE, options, unit="s", results=results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
