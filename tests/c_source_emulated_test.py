"""Networks as C source on emulated Cortex-M3, M4 and M7: the logits of LiteRT, and every stored tensor."""

import atexit
import functools
import pathlib
import shutil
import tempfile

import cortex_m
import numpy as np
import pytest
from c_source_operators_test import convolved
from fold_test import other_layers
from networks import calibrated, small_network
from small_files import SAME

import mmx_tf
from benchmarks import emulated, microcontroller
from mmx_tf import models
from mmx_tf.export.c_source import c_source
from mmx_tf.export.c_source.check import check_program
from mmx_tf.export.c_source.writer import RUNTIME, runtime

pytestmark = [pytest.mark.broad, cortex_m.needed]
FLAGS = ["-O2", "-std=c99", "-Wall", "-Wextra", "-Werror"]
BUILDS = pytest.mark.parametrize("build", microcontroller.BUILDS)


def pixels_of(digits, count):
    """uint8 images for evaluation, as files take them by default."""
    images = np.concatenate([images for images, _ in digits.evaluation(batch_size=90)])[:count]
    return np.rint((images + 1) * 127.5).astype(np.uint8)


@pytest.fixture(scope="module")
def exported(digits):
    """The small network with bits of 4, 3, 8 and 4 in turn, and 3-bit weights."""
    return mmx_tf.convert(mmx_tf.fold(calibrated(small_network(), digits, choice=[1, 2, 0], weight_bits=3)))


@BUILDS
@pytest.mark.parametrize("board, images", [("cortex-m3", 2), ("cortex-m4", 4), ("cortex-m7", 2)])
def test_logits_are_those_of_litert(exported, digits, board, images, build, tmp_path):
    firmware = microcontroller.Firmware(exported, build, board, pixels_of(digits, images), tmp_path)
    measured = firmware.measured()
    assert (measured["logits"], measured["logits_unlike_xnnpack"]) == (10 * images, 0)
    assert len(np.unique(firmware.expected)) > 10
    # The arena, whole words; a stack without buffers, an image or a tensor in it.
    assert measured["plan_bytes"] <= measured["ram_bytes"] <= measured["plan_bytes"] + 8
    assert 0 < measured["stack_bytes"] < 1024


def test_packing_takes_less_memory(exported, digits, tmp_path):
    found = {}
    for build in microcontroller.BUILDS:
        folder = tmp_path / build
        folder.mkdir()
        firmware = microcontroller.Firmware(exported, build, "cortex-m4", pixels_of(digits, 1), folder)
        found[build] = firmware.measured()
        steps = firmware.instructions_by_step()
        # The rest is net_run's own, and what stands between two readings of the clock.
        assert 0.9 < sum(steps.values()) / found[build]["instructions"] < 1.1
        assert {"stem", "depthwise", "expand"} <= {name.partition("/")[0] for name in steps}
    assert found["packed"]["ram_bytes"] < 0.9 * found["int8"]["ram_bytes"]
    assert found["packed"]["constant_bytes"] < found["int8"]["constant_bytes"]


@functools.cache
def kernels(board) -> pathlib.Path:
    """The kernels' object file, which all networks of a process share."""
    folder = pathlib.Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in RUNTIME:
        (folder / name).write_text(runtime(name))
    return emulated.compiled(folder / "mmx_kernels.c", board, folder, flags=FLAGS)


def checked(data, pixels, board, folder, *, damage=None, **options):
    """The run of the program that compares every stored tensor with the reference interpreter."""
    made = c_source(data, **options)
    ((_, tensor),) = made.program.inputs
    files = made.files | {"net_check.c": check_program(made, {tensor.name: pixels})}
    for name, text in files.items():
        (folder / name).write_text(damage(name, text) if damage else text)
    sources = [folder / name for name in ("net.c", "net_check.c")]
    program = emulated.build([*sources, kernels(board)], board, folder, flags=[*FLAGS, "-DNET_TRACE"])
    return program.run(timeout_s=600)


@BUILDS
@pytest.mark.parametrize("board", emulated.BOARDS)
def test_every_stored_tensor_is_that_of_the_reference(exported, digits, board, build, tmp_path):
    run = checked(exported, pixels_of(digits, 2), board, tmp_path, activations=build, weights=build)
    assert run.exit_code == 0, run.output
    assert "0 of 20 codes differ" in run.output and " 0 of " in f" {run.output.splitlines()[-1]}"


def test_a_wrong_step_is_found_with_its_tensor(exported, digits, tmp_path):
    def damage(name, text):
        assert name != "net.c" or text.count(".top = 1") == 1
        return text.replace(".top = 1", ".top = 0")

    run = checked(exported, pixels_of(digits, 1), "cortex-m4", tmp_path, damage=damage)
    assert run.exit_code == 1
    assert "image 0: depthwise" in run.output and "stem" not in run.output


# Poolings, pads, gates, concatenations, crops: what the small network has not.
@pytest.mark.parametrize(
    "kind", ["max_pooling_padding_flatten", "gates_are_joined", "crop_rescale_global_max"]
)
def test_other_layers(kind, digits, tmp_path):
    data = mmx_tf.convert(mmx_tf.fold(calibrated(other_layers(kind), digits)))
    run = checked(data, pixels_of(digits, 2), "cortex-m4", tmp_path)
    assert run.exit_code == 0, run.output


# Slots of 2, 4 and 8 bits with weights of each width: pairs are multiplied otherwise than on this machine.
@pytest.mark.parametrize("weight_bits", [2, 4, 8])
@pytest.mark.parametrize(
    "kind, taps, out",
    [("CONV_2D", (7, 3, 3, 4), (5, 5, 7)), ("CONV_2D", (6, 1, 1, 4), (5, 5, 6)),
     ("DEPTHWISE_CONV_2D", (1, 3, 3, 4), (5, 5, 4))],
)  # fmt: skip
def test_every_pair_of_widths(kind, taps, out, weight_bits, tmp_path):
    net, data = convolved(kind, (5, 5, 4), taps, out, weight_bits=weight_bits, padding=SAME)
    run = checked(data, net.images(2)["image"], "cortex-m4", tmp_path)
    assert run.exit_code == 0, run.output


@pytest.mark.slow
@pytest.mark.parametrize("name, width", [("mobilenet_v2", 0.35), ("resnet8", 1.0), ("mobilenet_v1", 0.25)])
def test_all_logits_of_the_digits(name, width, digits, tmp_path):
    network = models.build(name, input_shape=(16, 16, 1), num_classes=10, width=width)
    data = mmx_tf.convert(mmx_tf.fold(calibrated(network, digits, choice=None)))
    firmware = microcontroller.Firmware(data, "packed", "cortex-m4", pixels_of(digits, 360), tmp_path)
    measured = firmware.measured()
    assert (measured["logits"], measured["logits_unlike_xnnpack"]) == (3600, 0)
