"""Workdirs that cannot be used: told in one paragraph, with exit code 2 and every file as before."""

import dataclasses
import json
import resource

import pytest
from networks import small_network
from refusals import files_of, refused

import mmx_tf
from mmx_tf import data
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.workdir import fingerprints
from mmx_tf.workdir.belonging import WORKDIR_FORMAT
from mmx_tf.workdir.workdir import Workdir

pytestmark = pytest.mark.broad


def begun(tmp_path, good) -> Workdir:
    """The workdir of a run that has just begun."""
    flags = [f"--float_model={good}", "--image_size=16", f"--workdir={tmp_path / 'run'}"]
    recipe = Recipe.from_flagfile("\n".join(flags))
    inputs = fingerprints.of_inputs(recipe, data.load("digits", image_size=16))
    with Workdir.opened(recipe, inputs=inputs) as workdir:
        return workdir


@pytest.fixture(scope="module")
def selection():
    """A bit selection of the network that fits: 8 bits everywhere."""
    search = mmx_tf.augment(small_network(), bit_widths=(8, 4, 3), pixel_scaling=(1 / 127.5, -1))
    return search.selection_of([0, 0, 0])


def without_a_layer(selection):
    return dataclasses.replace(selection, layers=(*selection.layers[:2], *selection.layers[3:]))


def of_another_network(selection):
    layers = [dataclasses.replace(layer, name=f"block_{i}") for i, layer in enumerate(selection.layers)]
    return dataclasses.replace(selection, layers=tuple(layers))


def with_other_bits(selection):
    stem, depthwise, *rest = selection.layers
    return dataclasses.replace(
        selection, layers=(stem, dataclasses.replace(depthwise, activation_bits=5), *rest)
    )


def edited(change):
    def make(selection):
        document = json.loads(json.dumps(selection.to_json()))
        change(document)
        return json.dumps(document)

    return make


SELECTIONS = {
    "layer missing": (without_a_layer, ["project: missing from the selection"]),
    "another network's": (of_another_network, ["block_0: not in the network", "stem: missing"]),
    "not a candidate": (with_other_bits, ["depthwise: activation_bits 5 is not among (8, 4, 3)"]),
    "edited bits": (
        edited(lambda document: document["layers"][1].update(activation_bits=4)),
        ["add up to", "edited or damaged"],
    ),
    "layer twice": (
        edited(lambda document: document["layers"].append(document["layers"][0])),
        ["['stem'] are there more than once"],
    ),
    "budget in words": (edited(lambda document: document.update(target_bops="5G")), ["target_bops='5G'"]),
    "candidates in words": (
        edited(lambda document: document.update(bit_widths=["8"])),
        ["distinct integers"],
    ),
    "another schema": (edited(lambda document: document.update(schema=2)), ["schema 2", "reads 1"]),
    "half a file": (lambda selection: '{"schema": 1,', ["is not JSON"]),
    "empty": (lambda selection: "", ["is not JSON"]),
}


@pytest.mark.parametrize("case", SELECTIONS)
def test_bit_selections(capsys, tmp_path, good, selection, case):
    make, parts = SELECTIONS[case]
    path = begun(tmp_path, good).path("bit_selection.json")
    made = make(selection)
    path.write_text(made) if isinstance(made, str) else made.save(path)
    message = refused(capsys, tmp_path, f"--float_model={good}")
    assert f"{path} cannot be used" in message and "remove it" in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"bops": "many"}'])
def test_damaged_metrics(capsys, tmp_path, good, selection, content):
    workdir = begun(tmp_path, good)
    selection.save(workdir.path("bit_selection.json"))
    workdir.path("metrics.json").write_text(content)
    message = refused(capsys, tmp_path, f"--float_model={good}")
    assert f"{workdir.path('metrics.json')} is damaged" in message and "Remove it" in message


def next_format(workdir):
    workdir.record(format=WORKDIR_FORMAT + 1, mmx_tf="7.1")


def format_1(workdir):
    """As a run leaves it whose checkpoints of the search have an alpha per layer."""
    workdir.record(format=1, mmx_tf="0.1.0")


def without_a_format(workdir):
    del workdir.state["format"], workdir.state["mmx_tf"]
    workdir.record()


def before_formats(workdir):
    """As an earlier version leaves a run that is killed in its first phase: checkpoints, no facts yet."""
    workdir.path("checkpoints", "state.json").unlink()
    workdir.path("checkpoints", "float").mkdir()


def state(text):
    return lambda workdir: workdir.path("checkpoints", "state.json").write_text(text)


WORKDIRS = {
    "of a later version": (next_format, [f"format {WORKDIR_FORMAT + 1} (mmx_tf 7.1)", "format 2 alone"]),
    "of an earlier version": (without_a_format, ["without a number", "format 2 alone"]),
    "of an earlier version, killed": (before_formats, ["without a number", "format 2 alone"]),
    "of the format before": (format_1, ["has format 1 (mmx_tf 0.1.0)", "format 2 alone", "Finish the run"]),
    "facts that are a list": (state("[]"), ["state.json cannot be read", "new --workdir"]),
    "facts without times": (state('{"format": 1}'), ["state.json cannot be read", "new --workdir"]),
    "facts without an end": (state('{"format": 1'), ["state.json cannot be read", "new --workdir"]),
}


@pytest.mark.parametrize("case", WORKDIRS)
def test_workdirs(capsys, tmp_path, good, case):
    change, parts = WORKDIRS[case]
    change(begun(tmp_path, good))
    message = refused(capsys, tmp_path, f"--float_model={good}")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "workdir",
    ["/proc/mmx_tf_run", "/dev/null", "/dev/null/below", "/tmp/" + 300 * "x"],
    ids=lambda path: path[:14],
)
def test_folders_that_cannot_be_made(capsys, tmp_path, good, workdir):
    message = refused(capsys, tmp_path, f"--float_model={good}", f"--workdir={workdir}")
    assert f"--workdir={workdir} cannot be used" in message


def test_a_disk_without_space(capsys, tmp_path, good):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.lock").touch()
    before = files_of(tmp_path)
    # No file may grow: the kernel fails the write, as on a full disk. Python ignores the signal.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        message = refused(capsys, tmp_path, f"--float_model={good}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"--workdir={tmp_path / 'run'} cannot be used" in message and "File too large" in message
    assert files_of(tmp_path) == before
