"""The search network: one quantizer in front of every weighted layer, with the right range."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import mmx_tf
from mmx_tf.budget.budget import UnreachableBudgetError
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer
from mmx_tf.metamix.selection import LayerSelection
from mmx_tf.network.heads import is_quantizer

layers = keras.layers


def network(body=tf.nn.relu, shape=(8, 8, 3)):
    """stem -> body -> probe -> logits; `probe` is the searched layer whose input is looked at."""
    inputs = keras.Input(shape, name="image")
    x = body(layers.Conv2D(4, 3, padding="same", name="stem")(inputs))
    x = layers.Dense(2, name="probe")(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(layers.Flatten()(x)), name="probed")


def signed_probe(body, **options):
    search = mmx_tf.augment(network(body), allow_unexportable=True, **options)
    return search.quantizers["probe"].signed


def join(merge, *bodies):
    return lambda x: merge([body(x) for body in bodies])


def chain(*steps):
    def run(x):
        for step in steps:
            x = step(x)
        return x

    return run


def linear(x):
    return layers.BatchNormalization()(x)


RELU, SIGMOID = layers.ReLU(name="module_relu"), layers.Activation("sigmoid", name="module_sigmoid")


@pytest.mark.parametrize(
    ("body", "signed"),
    [
        (layers.ReLU(), False),
        (layers.ReLU(6.0), False),
        (layers.ReLU(negative_slope=0.1), True),
        (layers.Activation("relu"), False),
        (SIGMOID, False),
        (layers.Activation("hard_sigmoid"), False),
        (layers.Activation("swish"), True),
        (layers.Activation("tanh"), True),
        (layers.Softmax(), False),
        (lambda x: tf.nn.relu6(x), False),
        (lambda x: tf.nn.relu(features=x), False),
        (lambda x: tf.sigmoid(x), False),
        (lambda x: tf.nn.relu(x) - 1.0, True),
        (lambda x: x, True),
        (linear, True),
        (chain(RELU, linear), True),
        (chain(RELU, layers.MaxPooling2D()), False),
        (chain(RELU, layers.AveragePooling2D()), False),
        (chain(RELU, layers.GlobalAveragePooling2D(), layers.Reshape((1, 1, 4))), False),
        (chain(RELU, layers.ZeroPadding2D(), layers.Dropout(0.1)), False),
        (chain(linear, layers.MaxPooling2D()), True),
        (chain(RELU, layers.Rescaling(-1.0)), True),
        (join(layers.Concatenate(), RELU, layers.ReLU(6.0, name="module_relu6")), False),
        (join(layers.Concatenate(), RELU, linear), True),
        (join(layers.Add(), RELU, SIGMOID), False),
        (join(layers.Add(), RELU, SIGMOID, linear), True),
        (join(layers.Add(), RELU, linear), True),
        (join(layers.Multiply(), RELU, SIGMOID), False),
        (join(layers.Multiply(), linear, linear), True),
    ],
)
def test_the_range_follows_from_what_produces_the_input(body, signed):
    assert signed_probe(body) is signed


def hard_swish(x):
    return layers.Multiply()([x, layers.ReLU(6.0)(x + 3.0) / 6.0])


def excited(x):
    """Squeeze-excite: every channel times a gate that another tensor decides."""
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return layers.Multiply()([x, layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(squeezed)])


@pytest.mark.parametrize(
    ("body", "floor"),
    [
        (hard_swish, -0.375),
        # keras's "hard_sigmoid" has slope 1/5: the minimum of x (x / 5 + 1 / 2) is -5 / 16, at -5 / 4.
        (lambda x: layers.Multiply()([layers.Activation("hard_sigmoid")(x), x]), -0.3125),
        (chain(hard_swish, layers.GlobalAveragePooling2D(), layers.Reshape((1, 1, 4))), -0.375),
        (chain(hard_swish, layers.ZeroPadding2D(), layers.Dropout(0.1)), -0.375),
        (chain(hard_swish, excited), -0.375),
        (chain(linear, excited), None),
        (chain(RELU, excited), 0),
        (join(layers.Concatenate(), hard_swish, RELU), -0.375),
        (join(layers.Concatenate(), hard_swish, linear), None),
        (join(layers.Add(), hard_swish, RELU), -0.375),
        (join(layers.Add(), hard_swish, hard_swish), -0.75),
        (join(layers.Add(), hard_swish, linear), None),
        (join(layers.Multiply(), hard_swish, RELU), None),
        (chain(hard_swish, linear), None),
        (layers.Activation("swish"), None),
    ],
)
def test_hard_swish_has_a_floor_that_its_codes_end_at(body, floor):
    """None: it is not known; 0: the input is never negative."""
    quantizer = mmx_tf.augment(network(body)).quantizers["probe"]
    assert quantizer.signed is (floor != 0)
    assert quantizer.floor == (pytest.approx(floor) if floor else None)


def test_symmetric_codes_can_be_asked_for_after_hard_swish():
    quantizer = mmx_tf.augment(network(hard_swish), signed={"probe": True}).quantizers["probe"]
    assert (quantizer.signed, quantizer.floor, quantizer.ranges[1]) == (True, None, (-7, 7))


def test_the_image_is_signed_and_the_logits_take_what_comes():
    search = mmx_tf.augment(network())
    assert {name: q.signed for name, q in search.end_quantizers.items()} == {"stem": True, "logits": True}


def test_signed_overrides_the_inference_for_the_named_layers_only():
    assert signed_probe(layers.ReLU(), signed={"probe": True}) is True
    search = mmx_tf.augment(network(), signed={"stem": False})
    assert search.end_quantizers["stem"].signed is False
    assert search.quantizers["probe"].signed is False


def test_signed_refuses_a_name_that_is_no_weighted_layer():
    with pytest.raises(
        ValueError, match=r"signed names \['nobody', 're_lu.*'\].*\['logits', 'probe', 'stem'\]"
    ):
        model = network(layers.ReLU(name="re_lu"))
        mmx_tf.augment(model, signed={"nobody": True, "re_lu": False, "stem": True})


def test_ends_have_one_8_bit_quantizer_and_the_others_a_branch_per_candidate():
    search = mmx_tf.augment(network(), bit_widths=(8, 4, 3))
    assert list(search.end_quantizers) == ["stem", "logits"]
    for quantizer in search.end_quantizers.values():
        assert type(quantizer) is ActivationQuantizer and quantizer.bits == 8
    assert list(search.quantizers) == ["probe"]
    assert type(search.quantizers["probe"]) is MultiBranchQuantizer
    assert search.quantizers["probe"].bit_widths == (8, 4, 3)
    assert search.quantizers["probe"].step_sizes.shape == (3,) and search.alpha.shape == (1, 1, 3)


def test_first_last_bits_change_the_ends_only():
    search = mmx_tf.augment(network(), bit_widths=(4, 2), weight_bits=3, first_last_bits=6)
    assert [q.bits for q in search.end_quantizers.values()] == [6, 6]
    # stem: 8*8*4 outputs of 3*3*3; probe: 8*8 positions of 4*2; logits: 8*8*2 -> 3.
    assert search.selection_of([1]).layers == (
        LayerSelection("stem", "conv", 6912, 6, 6, True, 192, False),
        LayerSelection("probe", "conv", 512, 2, 3, False, 256, True),
        LayerSelection("logits", "dense", 384, 6, 6, True, 128, False),
    )


def residual():
    inputs = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.Conv2D(4, 3, padding="same", name="stem")(inputs))
    main = layers.Conv2D(4, 3, strides=2, padding="same", name="main")(x)
    shortcut = layers.Conv2D(4, 1, strides=2, name="downsample")(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Add()([main, shortcut])))
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


def test_each_consumer_of_a_tensor_has_a_quantizer_of_its_own():
    search = mmx_tf.augment(residual())
    main, downsample = search.quantizers["main"], search.quantizers["downsample"]
    assert main is not downsample and main.step_sizes is not downsample.step_sizes
    assert main.input is downsample.input
    for name in ("main", "downsample"):
        producer = search.network.get_layer(name).get_input_at(-1).node.layer
        assert producer is search.quantizers[name]


def test_there_is_a_quantizer_for_each_weighted_layer_and_no_other():
    search = mmx_tf.augment(residual())
    quantizers = [layer.name for layer in search.network.layers if is_quantizer(layer)]
    assert sorted(quantizers) == [f"{n}_input_quantizer" for n in ("downsample", "logits", "main", "stem")]


def test_search_and_user_model_share_nothing():
    model = residual()
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
    labels = np.arange(8) % 3
    weights, outputs, config = model.get_weights(), model(images).numpy(), model.get_config()
    search = mmx_tf.augment(model)
    mine = {id(v) for v in search.network.variables}
    assert not mine & {id(v) for v in model.variables}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    search.compile(optimizer=keras.optimizers.SGD(1.0), loss=loss)
    search.bit_meta_step(tf.constant(images), tf.constant(labels))
    assert any(not np.array_equal(a, b) for a, b in zip(weights, _weights_of(search, model), strict=True))
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(model(images), outputs)
    assert model.get_config() == config


def _weights_of(search, model):
    names = [layer.name for layer in model.layers if layer.weights]
    return [w for name in names for w in search.network.get_layer(name).get_weights()]


def test_the_search_network_starts_from_the_users_weights():
    model = residual()
    search = mmx_tf.augment(model)
    for mine, theirs in zip(_weights_of(search, model), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


# The ends cost (6912 + 384) * 64 = 466944 BOPs, the probe 512 * 4 a bit: 8 bits 483328, 3 bits 473088.
LOWEST, HIGHEST = 473_088, 483_328


@pytest.mark.parametrize("target", [LOWEST, LOWEST + 0.5, 480_000, float(HIGHEST)])
def test_reachable_budgets(target):
    assert mmx_tf.augment(network(), target_bops=target).budget.target_bops == int(target)


@pytest.mark.parametrize("target", [LOWEST - 1, HIGHEST + 1, 5.3e9])
def test_an_unreachable_budget_is_refused_with_the_reachable_range(target):
    with pytest.raises(UnreachableBudgetError, match=f"takes {LOWEST} to {HIGHEST} BOPs.*3 to 8 bits"):
        mmx_tf.augment(network(), target_bops=target)


def test_average_bits_are_a_budget_too():
    # Half way between 4 and 3 bits.
    search = mmx_tf.augment(network(), target_average_bits=3.5)
    assert search.budget.target_bops == 466_944 + 512 * 4 * 7 // 2
    assert mmx_tf.augment(network(), target_average_bits=3).budget.target_bops == LOWEST
    with pytest.raises(UnreachableBudgetError, match="3 to 8 bits"):
        mmx_tf.augment(network(), target_average_bits=2.9)


def test_without_a_target_there_is_no_budget():
    assert mmx_tf.augment(network()).budget.target_bops is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_bops": "5.3G"}, "target_bops='5.3G': a number above 0"),
        ({"target_bops": float("nan")}, "target_bops=nan"),
        ({"target_average_bits": -4}, "target_average_bits=-4"),
        ({"regularizer_weight": -1.0}, "regularizer_weight=-1.0: a number of 0 or more"),
        ({"meta_epochs": 1.5}, "meta_epochs=1.5: an integer of 0 or more"),
    ],
)
def test_settings_of_the_search_that_are_no_such_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        mmx_tf.augment(network(), **options)


def test_weights_that_are_not_finite_are_refused_by_name():
    model = network()
    kernel, *rest = model.get_layer("probe").get_weights()
    kernel.flat[:2] = np.nan, np.inf
    model.get_layer("probe").set_weights([kernel, *rest])
    with pytest.raises(
        ValueError, match="layer 'probe' has 2 weights that are NaN or infinite .probe/kernel"
    ):
        mmx_tf.augment(model)


def test_two_budgets_are_refused():
    with pytest.raises(ValueError, match="target_bops=480000 and target_average_bits=4: give one"):
        mmx_tf.augment(network(), target_bops=480000, target_average_bits=4)


@pytest.mark.parametrize("bit_widths", [(), (4, 4), (9, 4), (4, 1), (4.5, 3), "843", 8, (True, 4), None])
def test_candidates_must_be_distinct_integers_in_2_to_8(bit_widths):
    with pytest.raises(ValueError, match="distinct integers in 2..8"):
        mmx_tf.augment(network(), bit_widths=bit_widths)


@pytest.mark.parametrize("bits", [1, 9, 4.5, "4", None])
@pytest.mark.parametrize("name", ["weight_bits", "first_last_bits"])
def test_other_bits_must_be_integers_in_2_to_8(name, bits):
    with pytest.raises(ValueError, match=f"{name}=.*an integer in 2..8"):
        mmx_tf.augment(network(), **{name: bits})


def test_candidates_of_any_integer_type_in_any_order():
    search = mmx_tf.augment(network(), bit_widths=np.array([3, 8]), weight_bits=np.int64(4))
    assert search.budget.bit_widths == (3, 8)
    assert all(type(bits) is int for bits in (*search.budget.bit_widths, search.budget.weight_bits))


def two_layers():
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten()(layers.Conv2D(2, 3, name="stem")(inputs))
    return keras.Model(inputs, layers.Dense(3)(x), name="two_layers")


def test_several_targets_of_nothing_to_search_are_refused():
    with pytest.raises(ValueError, match="'two_layers' has 2 weighted.*nothing to search. Give one target"):
        mmx_tf.augment(two_layers(), target_bops=[1e5, 2e5])


def test_a_network_without_weighted_layers_is_refused():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(inputs), name="none")
    with pytest.raises(ValueError, match="'none' has no weighted layer"):
        mmx_tf.augment(model)


def test_a_layer_that_cannot_be_handled_is_named():
    with pytest.raises(ValueError, match=r"Layer 'mine' \(Lambda\)"):
        mmx_tf.augment(network(layers.Lambda(lambda x: x + 1, name="mine")))
