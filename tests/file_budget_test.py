"""A budget in bytes of the file: weights by hand, the rest against files that are written, whole searches."""

import numpy as np
import pytest
import tf_keras as keras
from networks import small_network

import mmx_tf
from mmx_tf.folding.fold import FoldError
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.metamix.file_bytes import costs_in_bytes
from tests import alphas

pytestmark = pytest.mark.broad

WEIGHTS = (8, 4, 2)
# Elements of the searched kernels: 3*3*6 depthwise, 6*6 and 6*8 pointwise. A byte holds two codes of 4 bits;
# of 2 bits four where rows fill bytes, for which six inputs are no multiple of 4. XNNPACK takes no packed
# depthwise weights, TensorFlow Lite Micro no int2.
BYTES = {
    "int4": ((54, 27, 27), (36, 18, 18), (48, 24, 24)),
    "int4_xnnpack": ((54, 54, 54), (36, 18, 18), (48, 24, 24)),
    "int4_micro": ((54, 27, 27), (36, 18, 18), (48, 24, 24)),
}
PADDING = 16
"""Bytes by which an estimate may be too large for each weight tensor, and for the metadata."""
CLIP = 160
"""The same for each activation of 8 bits: a QUANTIZE and its tensor, which fewer bits have."""


def searched(network=None, **options):
    arguments = {"bit_widths": (8, 4, 3), "weight_bits": WEIGHTS}
    return mmx_tf.augment(network or small_network(), **{**arguments, **options})


def size_of(search, choice, rng, **options):
    """Bytes of the file of a choice, its step sizes drawn at random."""
    fixed = mmx_tf.rebuild(search, search.selection_of(choice))
    for layer in fixed.layers:
        if isinstance(layer, ActivationQuantizer):
            layer.set_step_size(rng.uniform(0.01, 0.2))
    return len(mmx_tf.convert(fixed, **options))


@pytest.mark.parametrize("storage", BYTES)
def test_bytes_of_weights_by_hand(storage):
    costs = costs_in_bytes(searched(), {"weight_storage": storage})
    # Pairs: each weight candidate with three activation candidates, which cost nothing.
    assert costs.table == tuple(tuple(np.repeat(row, 3)) for row in BYTES[storage])
    assert costs.unit == "bytes"


def test_rows_that_fill_bytes_take_two_bits_a_weight():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, name="stem")(inputs)
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 1, name="middle")(x))
    search = searched(keras.Model(inputs, keras.layers.Dense(2, name="head")(x)))
    assert costs_in_bytes(search, {"weight_storage": "int4"}).table[0][::3] == (32, 16, 8)
    assert costs_in_bytes(search, {"weight_storage": "int4_micro"}).table[0][::3] == (32, 16, 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "storage"), [*(("small", storage) for storage in BYTES), ("mobilenet_v2", "int4")]
)
def test_no_file_is_larger_than_its_estimate_nor_much_smaller(kind, storage):
    network = None
    if kind == "mobilenet_v2":
        network = mmx_tf.models.build(kind, input_shape=(32, 32, 3), num_classes=10, width=0.35)
    search, options = searched(network), {"weight_storage": storage, "labels": ["zero", *"123456789"]}
    costs, rng = costs_in_bytes(search, options), np.random.default_rng(0)
    layers, pairs = len(costs.table), len(search.budget.pairs)
    uniform = [[index] * layers for index in ((0, 2, pairs - 1) if kind == "small" else (0,))]
    for choice in [*uniform, rng.integers(pairs, size=layers).tolist()]:
        excess = costs.of(choice) - size_of(search, choice, rng, **options)
        unclipped = sum(search.budget.pairs[index][1] == 8 for index in choice)
        # A pointwise convolution whose weights are packed has fewer options.
        assert 0 <= excess <= (2 * PADDING + 16) * (layers + 1) + CLIP * unclipped, choice
        assert kind == "small" or excess <= 0.015 * costs.of(choice)


def test_labels_count():
    few, many = (
        costs_in_bytes(searched(), {"weight_storage": "int4", "labels": labels})
        for labels in (None, ["x" * 100] * 10)
    )
    assert 1000 <= many.fixed - few.fixed <= 1100


def test_a_selection_meets_the_budget():
    free = costs_in_bytes(searched(), {"weight_storage": "int4"})
    low, high = free.reachable
    assert high - low == 27 + 18 + 24
    search = searched(target_bytes=low + 30, convert_options={"weight_storage": "int4"})
    assert search.budget.others == ((free, low + 30),)
    # Equal alphas take 8 bits; the pointwise layers then save 18 and 24 bytes of the 39 that are too many.
    alphas.set_row(search, 0, [1.0, 0.0, 0.0], of_weights=True)
    selection = search.bit_selection()
    assert [layer.weight_bits for layer in selection.layers] == [8, 8, 4, 4, 8]
    assert [layer.activation_bits for layer in selection.layers] == [8] * 5
    assert selection.cost.value == low + 27 and selection.cost.unit == "bytes"
    assert selection.target_bops is None
    size = size_of(search, [0, 3, 3], np.random.default_rng(1), weight_storage="int4")
    assert size <= selection.cost.value <= selection.cost.target


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target_bytes": 4000, "weight_bits": 4},
            "target_bytes=4000 with weight_bits=4: activation bits",
        ),
        ({"target_bytes": 4000}, "'int8', in which weights of all bit-widths take one byte.*'int4_xnnpack'"),
        ({"target_bytes": 4000, "convert_options": {"weight_storage": "int3"}}, "weight_storage is 'int3'"),
        ({"target_bytes": 4000, "convert_options": {"weight_storage": "int4", "labels": ["a"]}}, "1 labels"),
        ({"target_bytes": 0}, "target_bytes=0: a number above 0, for example 2.9e6"),
        ({"target_bytes": 4000, "convert_options": "int4"}, "convert_options='int4': a dict of convert's"),
        (
            {"convert_options": {"weight_storage": "int4"}},
            "they are for target_bytes, target_ram, target_flash and target_latency alone",
        ),
        (
            {"target_bytes": 1000, "convert_options": {"weight_storage": "int4"}},
            "target of 1000 bytes is out of reach: with candidates of 8, 4, 3 bits and 8, 4, 2 for weights "
            r"this network takes .* bytes\. Ask for more\.$",
        ),
    ],
)
def test_budgets_that_make_no_search_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        searched(**options)


def test_a_network_that_cannot_be_exported_has_no_size():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Activation("log_softmax")(keras.layers.Conv2D(8, 3, name="stem")(inputs))
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 1, name="middle")(x))
    network = keras.Model(inputs, keras.layers.Dense(2, name="head")(x))
    with pytest.raises(FoldError):
        searched(network, target_bytes=4000, convert_options={"weight_storage": "int4"})
