"""Every activation on all 256 codes: float function, folded layers, LiteRT and the reference interpreter."""

import functools
import math

import micro_files
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from small_files import assert_equal_to_litert

from benchmarks import activations as benchmark
from benchmarks import micro_interpreter
from mmx_tf.export.benchmark.isolated import ask
from mmx_tf.export.benchmark.profiler import profile
from mmx_tf.export.reading.micro_operators import refusals
from mmx_tf.export.reading.tflite_file import parse
from mmx_tf.export.running.litert import KernelsMissingError, run
from mmx_tf.export.running.partitions import delegated_ops
from mmx_tf.export.writing.tflite import convert
from mmx_tf.folding import registry
from mmx_tf.folding.activation_handlers import LINEAR
from mmx_tf.folding.carriers import given_grid
from mmx_tf.folding.values import Codes, FoldError
from mmx_tf.layers.activations import CURVES
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.curves import IntegerTanh
from mmx_tf.layers.integer.factors import IntegerFactor, on_8_bits
from mmx_tf.layers.integer.layers import QuantizeInput
from mmx_tf.layers.integer.smooth import ERROR, SHIFTS, IntegerCurve, shift_off_halves
from mmx_tf.layers.integer.softmax import IntegerSoftmax
from mmx_tf.layers.quantizers.slopes import EightBitPReLU
from mmx_tf.layers.quantizers.smooth_gates import FUNCTIONS, Smooth

pytestmark = pytest.mark.broad

layers = keras.layers
ALL_CODES = np.arange(-128, 128, dtype=np.int8)
CHANNELS = 4
EVERY_CODE = np.tile(ALL_CODES.reshape(1, 1, 256, 1), (1, 1, 1, CHANNELS))
GRIDS = 6

EXACT_EVERYWHERE = {
    "tanh": lambda: layers.Activation("tanh"),
    "elu": lambda: layers.ELU(),
    "elu of alpha 1/2": lambda: layers.ELU(0.5),
    "selu": lambda: layers.Activation("selu"),
    "gelu": lambda: layers.Activation("gelu"),
    "softplus": lambda: layers.Activation("softplus"),
    "exponential": lambda: layers.Activation("exponential"),
    **{name: functools.partial(Smooth, function=name) for name in FUNCTIONS},
}
"""Tables, and curves between float operators: the same codes in every runtime."""
OF_MANY = {
    "leaky": lambda: layers.LeakyReLU(0.1),
    "leaky, steep": lambda: layers.LeakyReLU(1.7),
    "leaky, rising": lambda: layers.LeakyReLU(-0.5),
    "leaky, all but linear": lambda: layers.LeakyReLU(0.9999),
    "linear": lambda: layers.LeakyReLU(1.0),
    "relu with a slope": lambda: layers.ReLU(negative_slope=0.3),
    "relu with a threshold": lambda: layers.ReLU(threshold=0.4),
    "prelu": lambda: prelu(0.0, 0.6),
    "prelu, both signs": lambda: prelu(-0.6, 0.6),
    "prelu, one slope": lambda: prelu(0.2, 0.3, shared_axes=[1, 2, 3]),
    "prelu, a slope for each": lambda: prelu(0.0, 0.6, shared_axes=None),
    "prelu of zeros": lambda: prelu(0.0, 1e-9),
    "prelu of tiny slopes": lambda: prelu(0.0, 1e-6),
}
"""Of several int8 operators: XNNPACK's codes."""
ACTIVATIONS = EXACT_EVERYWHERE | OF_MANY


def prelu(low, high, shared_axes=(1, 2)):
    layer = EightBitPReLU(shared_axes=shared_axes, name="activation")
    layer.build((None, 1, 256, CHANNELS))
    slopes = np.random.default_rng(5).uniform(low, high, layer.alpha.shape)
    layer.set_weights([np.zeros_like(slopes) if high == 1e-9 else slopes])
    return layer


def random_grids(rng, layer):
    """(source, target): of ordinary scales; zero is among the codes, as carriers have it."""
    source = Grid(np.exp(rng.uniform(-4.5, -2.5)), int(rng.integers(-100, 100)))
    given = given_grid(layer)
    if given:
        return source, Grid(given["scale"], -128 - given.get("low", 0))
    values = layer(tf.constant(source.dequantize(EVERY_CODE))).numpy()
    low, high = min(values.min(), 0.0), max(values.max(), 1e-3)
    # From 2 bits to 8, and a range that cuts off a little or leaves some codes.
    levels = 2 ** int(rng.integers(2, 9)) - 1
    step = (high - low) * rng.uniform(0.7, 1.2) / levels
    return source, Grid(step, int(np.clip(127 - round(high / step), -128, 127)))


def folded(layer, source, target):
    """(the folded layers as a model of codes, the bytes of their file)."""
    image = keras.Input(EVERY_CODE.shape[1:], name="x")
    codes = QuantizeInput(output_grid=source)(image)
    pending = registry.folded(layer, Codes(codes, source, False))
    output = pending.emit(target, pending.activation)
    return keras.Model(codes, output), convert(keras.Model(image, output), input_type="int8")


def positions_of(layer, source, target):
    """float64 [256, channels]: where the function lies on the target's codes, without rounding."""
    values = layer(tf.constant(source.dequantize(EVERY_CODE))).numpy()[0, 0]
    return np.clip(values.astype(np.float64) / target.scale + target.zero_point, -128, 127)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_folded_layers_are_the_function_to_half_a_code_and_the_file_is_equal(name):
    rng = np.random.default_rng(sorted(ACTIVATIONS).index(name))
    for _ in range(GRIDS):
        layer = ACTIVATIONS[name]()
        source, target = random_grids(rng, layer)
        model, data = folded(layer, source, target)
        codes = model(EVERY_CODE.astype(np.float32)).numpy()[0, 0]
        room = 0.5 + 0.001
        if isinstance(model.layers[-1], IntegerCurve):
            room += max(SHIFTS)
        elif name == "leaky, all but linear":
            room += 255 * LINEAR
        assert np.abs(codes - positions_of(layer, source, target)).max() <= room
        assert delegated_ops(data).left_outside == ()
        found = run(data, {"x": EVERY_CODE})
        np.testing.assert_array_equal(next(iter(found.values()))[0, 0], codes)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_few_codes_are_other_ones_than_training_saw(name):
    """Those next to a half: float32 and the file's arithmetic fall on its two sides."""
    rng, differing = np.random.default_rng(31), 0
    for _ in range(GRIDS):
        layer = ACTIVATIONS[name]()
        source, target = random_grids(rng, layer)
        codes = folded(layer, source, target)[0](EVERY_CODE.astype(np.float32)).numpy()[0, 0]
        differing += np.count_nonzero(codes != np.rint(positions_of(layer, source, target)))
    assert differing <= 0.01 * GRIDS * 256 * CHANNELS


@pytest.mark.parametrize("name", EXACT_EVERYWHERE)
def test_tables_and_curves_have_the_same_codes_in_every_runtime(name):
    rng = np.random.default_rng(77)
    for _ in range(GRIDS):
        layer = EXACT_EVERYWHERE[name]()
        source, target = random_grids(rng, layer)
        model, data = folded(layer, source, target)
        codes = model(EVERY_CODE.astype(np.float32)).numpy()
        for kernels in ("xnnpack", "builtin", "reference"):
            try:
                found = run(data, {"x": EVERY_CODE}, kernels=kernels)
            except KernelsMissingError:
                # LiteRT's reference kernels have no ELU, of any type.
                assert kernels == "reference" and "elu" in name
                continue
            np.testing.assert_array_equal(next(iter(found.values())), codes)


@micro_files.interpreter_needed
def test_tensorflow_lite_micro_has_the_same_codes_of_tables_and_curves():
    rng, files, expected = np.random.default_rng(78), {}, {}
    for name, layer in ((name, make()) for name, make in EXACT_EVERYWHERE.items()):
        model, files[name] = folded(layer, *random_grids(rng, layer))
        expected[name] = model(EVERY_CODE.astype(np.float32)).numpy()
    answers = micro_interpreter.run([(data, [EVERY_CODE]) for data in files.values()])
    for (name, data), answer in zip(files.items(), answers, strict=True):
        if "gelu" in name:
            assert [refusal.kind for refusal in refusals(parse(data))] == ["GELU"]
            assert "GELU" in answer.refusal
        else:
            assert not refusals(parse(data))
            np.testing.assert_array_equal(answer.outputs[0], expected[name])


@pytest.mark.parametrize("name", [*EXACT_EVERYWHERE, "leaky", "relu with a threshold"])
def test_xnnpack_makes_one_table_of_all_its_operators(name, tmp_path):
    layer = ACTIVATIONS[name]()
    _, data = folded(layer, *random_grids(np.random.default_rng(3), layer))
    (tmp_path / "it.tflite").write_bytes(data)
    kernels, _ = ask(profile, tmp_path / "it.tflite", threads=1, runs=1, warmup=0)
    count = len(parse(data).operators)
    # XNNPACK's name for a kernel that looks codes up, where it made one of several operators.
    assert count == 1 or [kernel["name"] for kernel in kernels] == ["Invalid Unary Op"]
    assert len(kernels) == 1


def test_operators_that_were_not_chosen_leave_xnnpack():
    outside = {
        name: [kind for _, kind in delegated_ops(build()).left_outside]
        for name, build in benchmark.OPERATORS.items()
    }
    assert {name: kinds for name, kinds in outside.items() if kinds} == {
        "PReLU: PRELU": ["PRELU"],
        "hard-swish: HARD_SWISH": ["HARD_SWISH"],
        "GELU: GELU": ["GELU"],
        "exponential: EXP": ["EXP"],
        "softmax: SOFTMAX": ["SOFTMAX"],
        "any table: CAST, GATHER": ["QUANTIZE", "CAST", "GATHER"],
    }


def test_the_benchmark_tells_ratios_and_what_is_left_outside():
    files = {name: benchmark.OPERATORS[name]() for name in ("ReLU: MUL by 1", "GELU: GELU")}
    summary = benchmark.measured(files, rounds=1, calls=1)
    assert summary["ReLU: MUL by 1"]["ratio"] == 1 and summary["ReLU: MUL by 1"]["partitions"] == 1
    assert summary["GELU: GELU"]["left_outside"] == ["GELU"] and summary["GELU: GELU"]["partitions"] == 0


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_reference_interpreter_knows_the_rounding_of_each_runtime(name):
    layer = ACTIVATIONS[name]()
    source, target = random_grids(np.random.default_rng(3), layer)
    _, data = folded(layer, source, target)
    rules = ("xnnpack", "builtin") if "elu" in name else ("xnnpack", "builtin", "reference")
    assert_equal_to_litert(data, {"x": EVERY_CODE}, compared=rules)


@pytest.mark.parametrize("width", [2, 7, 100])
def test_softmax_is_that_of_the_file(width):
    rng = np.random.default_rng(width)
    for scale in (0.02745055966079235, 0.1, 0.7):
        source = Grid(scale, int(rng.integers(-128, 128)))
        codes = rng.integers(-128, 128, (64, 6, 6, width)).astype(np.int8)
        # Rows whose largest probabilities are close, as those of a trained network are not.
        codes[32:] = rng.integers(-20, 20, codes[32:].shape)
        image = keras.Input(codes.shape[1:], name="x")
        quantized = QuantizeInput(output_grid=source)(image)
        softmax = IntegerSoftmax(input_grid=source, output_grid=Grid(1 / 256, -128), name="y")
        data = convert(keras.Model(image, softmax(quantized)), input_type="int8")
        traced = tf.function(softmax)(codes.astype(np.float32)).numpy()
        for kernels in ("xnnpack", "builtin"):
            np.testing.assert_array_equal(run(data, {"x": codes}, kernels=kernels)["y"], traced)
        probabilities = tf.nn.softmax(source.dequantize(codes)).numpy()
        assert np.abs((traced + 128) / 256 - probabilities).max() <= 1.01 / 256


def test_softmax_takes_the_product_with_a_reciprocal():
    """41.5; as a quotient it would be 41.499996."""
    softmax = IntegerSoftmax(input_grid=Grid(0.02745055966079235, 0), output_grid=Grid(1 / 256, -128))
    row = -np.float32([[54, 17, 10, 17, 0, 17]])
    np.testing.assert_array_equal(softmax(row).numpy()[0, [1, 3, 5]], -86)


def test_curves_are_moved_off_halves():
    grid = Grid(0.01, 0)
    values = np.array([0.25, 0.731])
    assert shift_off_halves(values, grid) == 0
    assert shift_off_halves(np.array([0.25, 0.735]), grid) == 1 / 128
    # One half above, the other below what 1/128 of a step would make of it.
    both = np.array([0.735, (73.5 - 1 / 128) * np.float64(np.float32(0.01))])
    assert shift_off_halves(both, grid) == -1 / 128
    # There is no shift for values everywhere: then the one that leaves most room.
    everywhere = (np.arange(0, 1, ERROR) + 7) * 0.01
    assert abs(shift_off_halves(everywhere, grid)) <= 1 / 8


def test_a_moved_curve_has_one_operator_more():
    """softplus(0) = log 2 lies on a half of this grid."""
    source, half = Grid(0.05, 0), math.log(2) / 10.5
    still = IntegerCurve(curve="softplus", input_grid=source, output_grid=Grid(half * 1.03, -128))
    moved = IntegerCurve(curve="softplus", input_grid=source, output_grid=Grid(half, -128))
    assert [step.kind for step in still.steps] == ["MINIMUM", "EXP", "ADD", "LOG"]
    assert [step.kind for step in moved.steps] == ["MINIMUM", "EXP", "ADD", "LOG", "ADD"]
    assert moved.steps[-1].constant == pytest.approx(half / 128)


def test_slopes_are_rounded_to_8_bits_with_a_straight_gradient():
    layer = EightBitPReLU(shared_axes=[1, 2])
    layer.build((None, 2, 2, 3))
    layer.set_weights([np.float32([[[0.5, 0.1, -0.031]]])])
    x = tf.constant(-np.ones((1, 2, 2, 3), np.float32))
    with tf.GradientTape() as tape:
        y = layer(x)
    # 0.1 is 25.4 steps of 0.5 / 127, -0.031 is -7.9 of them.
    np.testing.assert_allclose(-y[0, 0, 0] * 127 / 0.5, [127, 25, -8], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(y, layer.alpha), np.full((1, 1, 3), -4.0))
    codes, scale = on_8_bits(layer.alpha.numpy())
    np.testing.assert_array_equal(codes, [[[127, 25, -8]]])
    assert scale == pytest.approx(0.5 / 127)


@pytest.mark.parametrize(
    "layer",
    [
        IntegerCurve(curve="elu", alpha=0.5, input_grid=Grid(0.05, 3), output_grid=Grid(0.1, -120)),
        IntegerTanh(input_grid=Grid(0.05, 3), output_grid=Grid(1 / 128, 0)),
        Smooth(function="softsign_gate"),
        EightBitPReLU(shared_axes=[1, 2]),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()
    if hasattr(layer, "table"):
        np.testing.assert_array_equal(again.table, layer.table)


def test_errors_name_the_value():
    grids = {"input_grid": Grid(0.1, 0), "output_grid": Grid(0.1, 0)}
    with pytest.raises(ValueError, match="TANH has Grid"):
        IntegerTanh(**grids)
    with pytest.raises(ValueError, match="SOFTMAX has Grid"):
        IntegerSoftmax(**grids)
    with pytest.raises(ValueError, match=f"curve is 'sine'; use one of {', '.join(CURVES)}"):
        IntegerCurve(curve="sine", **grids)
    with pytest.raises(ValueError, match=f"function is 'sine'; use one of {', '.join(FUNCTIONS)}"):
        Smooth(function="sine")
    with pytest.raises(ValueError, match="a constant's code is 128"):
        IntegerFactor(codes=np.array([128]), factor_scale=0.1, **grids)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (layers.ReLU(negative_slope=0.1, threshold=0.5), "threshold=0.5 and negative_slope=0.1: use one of"),
        (layers.LeakyReLU(300.0), "alpha=300, where codes of 8 bits.*in -8..8"),
        (
            layers.Activation("log_softmax"),
            "'log_softmax' has no operator: use one of elu, exponential",
        ),
    ],
)
def test_what_has_no_integer_form_says_what_to_use(layer, reason):
    image = keras.Input((2, 2, 3))
    layer(image)
    with pytest.raises(FoldError, match=reason):
        registry.folded(layer, Codes(image, Grid(0.1, 0), False))
