"""The frozen outcome of a search and its file."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmx_tf.metamix.selection import BitSelection, LayerSelection, SelectionMismatchError

LAYERS = (
    LayerSelection("stem", "conv", 100, 8, 8, True, 30, False),
    LayerSelection("a", "depthwise", 10, 3, 4, False, 50, True),
    LayerSelection("b", "conv", 40, 4, 4, True, 25, True),
    LayerSelection("logits", "dense", 5, 8, 8, False, 7, False),
)
SELECTION = BitSelection((8, 4, 3), LAYERS, target_bops=8000)


def changed(which, **changes):
    layers = [dataclasses.replace(layer, **changes) if layer.name == which else layer for layer in LAYERS]
    return dataclasses.replace(SELECTION, layers=tuple(layers))


def document(**changes):
    return {**json.loads(json.dumps(SELECTION.to_json())), **changes}


def test_bops_by_hand():
    assert [layer.bops for layer in LAYERS] == [6400, 120, 640, 320]
    assert SELECTION.bops == 7480


def test_average_bits_three_ways_by_hand():
    # Searched layers only: 3 and 4 bits.
    assert SELECTION.average_bits == {
        "plain": 3.5,
        "by_ops": (10 * 3 + 40 * 4) / 50,
        "by_elements": (50 * 3 + 25 * 4) / 75,
    }


def test_the_file_has_the_keys_of_the_public_contract(tmp_path):
    SELECTION.save(tmp_path / "bit_selection.json")
    written = json.loads((tmp_path / "bit_selection.json").read_text())
    assert list(written) == ["schema", "bit_widths", "layers", "bops", "target_bops"]
    assert written["schema"] == 1
    assert written["bit_widths"] == [8, 4, 3]
    assert (written["bops"], written["target_bops"]) == (7480, 8000)
    assert [layer["name"] for layer in written["layers"]] == ["stem", "a", "b", "logits"]
    assert written["layers"][1] == {
        "name": "a", "kind": "depthwise", "macs": 10, "activation_bits": 3, "weight_bits": 4, "signed": False,
        "input_elements": 50, "searched": True,
    }  # fmt: skip


@pytest.mark.parametrize("target", [8000, None])
def test_load_gives_what_was_saved(tmp_path, target):
    selection = dataclasses.replace(SELECTION, target_bops=target)
    path = tmp_path / "bit_selection.json"
    selection.save(path)
    assert BitSelection.load(path) == selection
    assert BitSelection.load(str(path)) == selection
    assert [entry.name for entry in tmp_path.iterdir()] == ["bit_selection.json"]


layer_strategy = st.builds(
    LayerSelection,
    name=st.text(max_size=8),
    kind=st.sampled_from(["conv", "depthwise", "dense"]),
    macs=st.integers(1, 2**60),
    activation_bits=st.integers(2, 8),
    weight_bits=st.integers(2, 8),
    signed=st.booleans(),
    input_elements=st.integers(1, 2**40),
    searched=st.booleans(),
)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(layer_strategy, max_size=3, unique_by=lambda layer: layer.name),
    st.none() | st.integers(0, 2**62),
)
def test_any_selection_survives_json(layers, target):
    selection = BitSelection((8, 3), tuple(layers), target)
    assert BitSelection.from_json(json.loads(json.dumps(selection.to_json()))) == selection


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SELECTION.target_bops = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        SELECTION.layers[1].activation_bits = 8
    assert hash(SELECTION) == hash(dataclasses.replace(SELECTION))


def with_layer(index, **changes):
    layers = document()["layers"]
    layers[index] = {key: value for key, value in {**layers[index], **changes}.items() if value is not ...}
    return document(layers=layers)


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (document(schema=2), "schema 2; this version reads 1"),
        (document(schema=None), "schema None"),
        ([1], "schema 'list'"),
        ({"schema": 1}, "damaged"),
        (document(layers=3), "damaged"),
        (document(layers=[1]), "damaged"),
        (document(bit_widths=None), "damaged"),
        (document(bit_widths=[8, "four"]), "damaged"),
        (document(bops=7481), "records 7481 BOPs but its layers add up to 7480: it was edited"),
        (with_layer(1, activation_bits=4), "records 7480 BOPs but its layers add up to 7520: it was edited"),
        (with_layer(1, macs=...), "missing .'macs'"),
        (with_layer(1, colour="red"), "unknown .'colour'"),
        (with_layer(1, activation_bits=3.0), "activation_bits=3.0 is not of type int"),
        (with_layer(1, macs=True), "macs=True is not of type int"),
        (with_layer(1, signed=0), "signed=0 is not of type bool"),
        (with_layer(1, activation_bits=9), "activation_bits=9 is not in 2..8"),
        (with_layer(1, weight_bits=1), "weight_bits=1 is not in 2..8"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, damaged, message):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(damaged))
    with pytest.raises(SelectionMismatchError, match=f"mine.json.*{message}"):
        BitSelection.load(path)


def test_a_file_that_is_not_json_is_refused_by_name(tmp_path):
    (tmp_path / "mine.json").write_text('{"schema": 1, ')
    with pytest.raises(SelectionMismatchError, match="mine.json is not JSON"):
        BitSelection.load(tmp_path / "mine.json")


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        BitSelection.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    "same",
    [
        SELECTION,
        changed("a", activation_bits=8),
        changed("b", weight_bits=2),
        dataclasses.replace(SELECTION, target_bops=None, bit_widths=(3, 4)),
        dataclasses.replace(SELECTION, layers=LAYERS[::-1]),
    ],
)
def test_other_bits_of_the_same_network_fit(same):
    same.check_fits(SELECTION)


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (changed("a", kind="conv"), "a: kind is 'conv', the network has 'depthwise'"),
        (changed("a", macs=11), "a: macs is 11, the network has 10"),
        (changed("b", signed=False), "b: signed is False, the network has True"),
        (changed("b", input_elements=1), "b: input_elements is 1, the network has 25"),
        (changed("b", searched=False), "b: searched is False, the network has True"),
        (changed("a", activation_bits=5), "a: activation_bits 5 is not among (8, 4, 3)"),
        (changed("stem", activation_bits=4), "stem: activation_bits 4 is not among (8,)"),
        (changed("a", name="z"), "a: missing from the selection; z: not in the network"),
    ],
)
def test_a_layer_that_differs_is_named(other, problem):
    with pytest.raises(SelectionMismatchError) as error:
        other.check_fits(SELECTION)
    assert str(error.value) == f"the bit selection does not fit the network: {problem}"


def test_all_differing_layers_are_listed():
    layers = (
        dataclasses.replace(LAYERS[0], signed=False, macs=1),
        dataclasses.replace(LAYERS[2], activation_bits=2),
        dataclasses.replace(LAYERS[3], name="head"),
    )
    with pytest.raises(SelectionMismatchError) as error:
        BitSelection((4, 2), layers).check_fits(SELECTION)
    assert str(error.value).split(": ", 1)[1].split("; ") == [
        "a: missing from the selection",
        "b: activation_bits 2 is not among (8, 4, 3)",
        "head: not in the network",
        "logits: missing from the selection",
        "stem: macs is 1, the network has 100",
        "stem: signed is False, the network has True",
    ]
