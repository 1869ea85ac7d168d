"""Whole networks as C source, the numbers in it, and the command that writes it."""

import re
import subprocess
import sys

import compiled_network
import numpy as np
import pytest
import tf_keras as keras
from networks import calibrated, small_network
from small_files import Net, TensorType, options

import mmx_tf
from mmx_tf.export import reference
from mmx_tf.export.c_source import BudgetError, UnsupportedError, c_source, fixed_point, weights
from mmx_tf.export.c_source.command import _bytes, main
from mmx_tf.export.reference.rounding import scale_half_even


def gated_network():
    """A stride with its own padding, hard-swish, a squeeze-excite gate, and a concatenation."""
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(inputs)
    x = keras.layers.Activation("swish", name="stem_swish")(x)
    x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name="pad")(x)
    x = keras.layers.DepthwiseConv2D(3, strides=2, name="depthwise")(x)
    x = keras.layers.ReLU(name="depthwise_relu")(x)
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = keras.layers.Conv2D(8, 1, activation="sigmoid", name="gate")(gate)
    x = keras.layers.Multiply(name="excite")([x, gate])
    x = keras.layers.Concatenate(name="join")([keras.layers.Conv2D(4, 1, name="left")(x), x])
    x = keras.layers.MaxPooling2D(2, name="pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="logits")(x), name="gated")


NETWORKS = {"residual": small_network, "gated": gated_network}


@pytest.fixture(scope="module")
def files(digits):
    """The files of both networks, and one with packed weights, by name."""
    folded = {name: mmx_tf.fold(calibrated(build(), digits)) for name, build in NETWORKS.items()}
    made = {name: mmx_tf.convert(network) for name, network in folded.items()}
    packed = mmx_tf.fold(calibrated(small_network(), digits), weight_storage="int4")
    return made | {"int4": mmx_tf.convert(packed, weight_storage="int4")}


@pytest.fixture(scope="module")
def pixels(digits):
    """uint8 images, of which the integer input is made."""
    images = np.concatenate([images for images, _ in digits.evaluation(batch_size=90)])[:12]
    return np.rint(255 * (images - images.min()) / np.ptp(images)).astype(np.uint8)


def images_of(data, pixels):
    (image,) = reference.load(data).inputs
    assert image.type == "UINT8"
    return {image.name: pixels}


@compiled_network.needed
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "all tensors"])
@pytest.mark.parametrize("name", [*NETWORKS, "int4"])
def test_every_tensor_is_that_of_the_file(tmp_path, files, pixels, name, fused):
    data = files[name]
    made = compiled_network.assert_exact(tmp_path, data, images_of(data, pixels), fused=fused)
    stored = {step.output.name for step in made.program.steps}
    computed = {o.outputs[0].name for o in made.program.graph.operators if o.kind != "RESHAPE"}
    # The image's codes are the caller's memory.
    missing = computed - stored - {made.program.graph.operators[0].outputs[0].name}
    assert bool(missing) == fused


@compiled_network.needed
@pytest.mark.parametrize("name", NETWORKS)
def test_optimized_programs_are_exact_too(tmp_path, files, pixels, name):
    images = images_of(files[name], pixels)
    for options_ in ({}, {"activations": "int8"}, {"weights": "int8", "name": "other"}):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        compiled_network.assert_exact(folder, files[name], images, flags=compiled_network.FAST, **options_)


@compiled_network.needed
def test_a_wrong_number_is_found(tmp_path, files, pixels):
    made = c_source(files["residual"])
    text = made.files["net.c"]
    first = re.search(r"bias_0\[\d+\] = \{\s*(-?\d+)", text)
    made.files["net.c"] = text[: first.start(1)] + str(int(first[1]) + 100_000) + text[first.end(1) :]
    (codes, tensors), _ = compiled_network.differing(tmp_path, made, images_of(files["residual"], pixels))
    assert codes and tensors


def test_packed_activations_and_weights_save_what_they_should(files):
    packed, whole = (c_source(files["residual"], activations=a, weights=a) for a in ("packed", "int8"))
    # Both write windows over their input, which saves the one of 8 bits more (from 960 and 1,152 bytes).
    assert packed.ram_bytes < 0.95 * whole.ram_bytes and packed.ram_bytes <= 820
    constants = [made.files["net.c"].count("0x") for made in (packed, whole)]
    assert constants[0] < 0.8 * constants[1] and packed.flash_bytes < whole.flash_bytes
    assert f"#define NET_RAM_BYTES {packed.ram_bytes}u" in packed.files["net.h"]
    bits = {step.output.name: step.output.bits for step in packed.program.steps}
    assert set(bits.values()) == {4, 8}


def test_codes_stay_in_the_range_that_is_proved(files, pixels):
    for name in NETWORKS:
        made = c_source(files[name], fused=False)
        tensors = reference.run(made.program.graph, images_of(files[name], pixels))
        for step in made.program.steps:
            codes = tensors[step.output.name]
            assert step.output.low <= codes.min() and codes.max() <= step.output.high
            assert step.output.high - step.output.low < 2**step.output.bits


@pytest.mark.parametrize("seed", range(5))
def test_integer_multipliers_round_as_xnnpack_at_every_sum(seed):
    rng = np.random.default_rng(seed)
    reals = np.exp(rng.uniform(np.log(1e-4), np.log(2), 20)).astype(np.float32)
    sums = np.arange(-40_000, 40_001)
    exact = np.clip(scale_half_even(sums, reals[:, None]), -100, 90)
    proved = 0
    for real, codes in zip(reals, exact, strict=True):
        highest = np.array([40_000])
        found = fixed_point.multipliers(np.array([real]), -highest, highest, (-100, 90))
        if found is None:
            continue
        assert 1 <= found.shift <= 20 and found.mantissas[0] < 2**31
        assert found.fits.all()
        high = sums * found.scale * found.mantissas[0] >> 32
        assert np.array_equal(np.clip((high + (1 << found.shift >> 1)) >> found.shift, -100, 90), codes)
        proved += 1
    assert proved >= 18


def test_ties_have_no_integer_multiplier():
    lowest, highest = np.array([-100]), np.array([100])
    assert fixed_point.multipliers(np.array([0.5], np.float32), lowest, highest, (-50, 50)) is None


def test_weights_are_divided_by_what_they_have_in_common():
    codes = np.random.default_rng(0).integers(-7, 8, (5, 21))
    packed = weights.pack((18 * codes).astype(np.int8), bits=(2, 4, 8))
    assert (packed.bits, packed.factor) == (4, 18) and np.array_equal(packed.codes, codes)
    assert weights.pack(np.full((2, 3), -128, np.int8), bits=(8,)).bits == 8
    # Two filters at a time, and one of zeros behind the fifth: words of the first and of the second in turn.
    words = weights.words(packed, column_bits=4, groups=1)
    assert words.shape == (3, 3, 2) and np.all(words[2, :, 1] == 0x88888888)


def command(folder, data, *arguments):
    path = folder / "model.tflite"
    path.write_bytes(data)
    return main([str(path), f"--out={folder / 'out'}", *arguments])


@compiled_network.needed
def test_the_command_writes_a_program_that_checks_itself(tmp_path, capsys, files, pixels):
    np.save(tmp_path / "images.npy", pixels)
    assert command(tmp_path, files["gated"], f"--check={tmp_path / 'images.npy'}", "--name=digits") == 0
    assert "bytes of RAM for activations" in capsys.readouterr().out
    out = tmp_path / "out"
    names = ["digits.c", "digits.h", "digits_check.c", "mmx_kernels.c", "mmx_kernels.h"]
    assert sorted(path.name for path in out.iterdir()) == names
    compiled_network.run_compiler("-DDIGITS_TRACE", *out.glob("*.c"), "-o", tmp_path / "check")
    done = subprocess.run([tmp_path / "check"], capture_output=True, text=True)
    assert done.returncode == 0 and "0 of 120 codes differ" in done.stdout


def test_a_budget_tells_what_is_live_at_the_peak(tmp_path, capsys, files):
    assert command(tmp_path, files["residual"], "--max_ram=100") == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "more than the 100 allowed" in error and "stem" in error
    assert not (tmp_path / "out").exists()
    with pytest.raises(BudgetError):
        c_source(files["residual"], max_ram=100)
    taken = c_source(files["residual"]).ram_bytes
    assert [command(tmp_path, files["residual"], f"--max_ram={size}") for size in (taken - 1, taken)] == [
        3,
        0,
    ]


def test_k_are_thousands_as_in_all_flags():
    assert [_bytes(text) for text in ("65536", "64K", "1M")] == [65_536, 64_000, 10**6]


def test_bad_words_are_refused(tmp_path, capsys, files):
    data = files["residual"]
    np.save(tmp_path / "wrong.npy", np.zeros((2, 5, 5, 1), np.uint8))
    for word, said in {
        "--max_ram=0": "--max_ram=0 is not a number of bytes above 0",
        "--max_ram=64Q": "--max_ram=64Q is not a number of bytes",
        "--name=int": "--name='int' is no C identifier",
        "--name=MMX_Kernels": "is the name of the kernels' files",
        "--name=stdint": "is the name of a header of C, stdint.h",
        f"--name={'n' * 41}": "has 41 characters; give one of at most 40",
        "--check=": "--check= names no file",
        f"--check={tmp_path / 'none.npy'}": "no such file",
        f"--check={__file__}": "is not a NumPy file",
        f"--check={tmp_path / 'wrong.npy'}": "has shape (2, 5, 5, 1); the file takes [N, *(16, 16, 1)]",
    }.items():
        assert command(tmp_path, data, word) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert command(tmp_path, data[: len(data) // 2]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.c").write_text("mine")
    for folder, said in {
        tmp_path / "out": "is a folder that is not empty",
        tmp_path / "out" / "mine.c": "is a file; give a folder",
        "": "--out= names no folder",
    }.items():
        assert command(tmp_path, data, f"--out={folder}") == 2
        assert said in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.c"]


def test_arguments_of_a_notebook_are_checked_as_the_command_checks_its_own(files):
    data = files["residual"]
    for wrong, said in {
        "name": ("1 2", r"^name='1 2' is no C identifier"),
        "max_ram": ("64K", "max_ram is '64K'; give a number of bytes"),
        "weights": (None, "weights is None; use one of 'packed', 'int8'"),
    }.items():
        with pytest.raises(ValueError, match=said[1]):
            c_source(data, **{wrong: said[0]})
    with pytest.raises(TypeError, match="data is of type str; give the bytes"):
        c_source("model.tflite")


def test_operators_that_are_not_written_are_named(tmp_path, capsys):
    net = Net(0)
    source = net.input("image", (4, 4, 2))
    data = net.file_of(
        "DEPTH_TO_SPACE", [source], net.tensor("codes", (8, 8, 1)), options=options("DepthToSpace")
    )
    assert command(tmp_path, data) == 2
    assert "operator 0 (DEPTH_TO_SPACE) is not among the operators" in capsys.readouterr().err
    net = Net(0)
    source = net.input("image", (4, 4, 2), dtype=TensorType.FLOAT32)
    target = net.tensor("reals", (4, 4, 2), dtype=TensorType.FLOAT32)
    with pytest.raises(UnsupportedError, match="FLOAT32"):
        c_source(net.file_of("EXP", [source], target))


def test_damaged_bytes_are_refused_with_a_sentence():
    net = Net(0)
    source = net.input("image", (6, 6, 4), scale=0.05, zero_point=0)
    weights, bias, _ = net.weights("w", (8, 3, 3, 4), axis=0, source_scale=0.05, bits=4)
    codes, pooled = net.tensor("codes", (6, 6, 8), scale=1.0), net.tensor("pooled", (8,), scale=0.5)
    fields = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    net.operator("CONV_2D", [source, weights, bias], codes, options=options("Conv2D", **fields), version=3)
    axes = net.constant("axes", np.array([1, 2]), TensorType.INT32)
    net.operator("MEAN", [codes, axes], pooled, options=options("Reducer", keepDims=False), version=2)
    data = net.finish(pooled)
    refused = 0
    with np.errstate(all="ignore"):
        for _ in range(250):
            damaged = np.frombuffer(data, np.uint8).copy()
            places = net.rng.integers(0, len(data), net.rng.integers(1, 5))
            damaged[places] = net.rng.integers(0, 256, len(places))
            try:
                c_source(damaged.tobytes())
            except ValueError as error:
                refused += 1
                assert str(error)
    assert 50 < refused < 250


def test_a_shape_that_the_operator_does_not_give_is_refused():
    net = Net(0)
    source = net.input("image", (4, 4, 2), scale=0.1, zero_point=0)
    target = net.tensor("codes", (9, 9, 2), scale=0.1, zero_point=0)
    fields = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2, "padding": 1}
    with pytest.raises(UnsupportedError, match=r"gives shape \(1, 2, 2, 2\)"):
        c_source(net.file_of("MAX_POOL_2D", [source], target, options=options("Pool2D", **fields), version=2))


def test_words_of_a_file_cannot_leave_their_comments_and_strings():
    net = Net(0)
    source = net.input('*/ int x; /* "\n??/ä', (4, 4, 2), scale=0.1, zero_point=0)
    target = net.tensor("*/ int y; /*", (2, 2, 2), scale=0.1, zero_point=0)
    fields = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2, "padding": 1}
    data = net.file_of("MAX_POOL_2D", [source], target, options=options("Pool2D", **fields), version=2)
    made = c_source(data, source="*/ int z; /*")
    for name in ("net.c", "net.h"):
        text = made.files[name]
        assert text.isascii() and "??/" not in text
        assert not re.search(r"\*/ int [xyz]", text)


def test_it_loads_no_tensorflow():
    code = (
        "import sys, mmx_tf; mmx_tf.c_source; from mmx_tf.export.c_source import command; "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'jinja2')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
