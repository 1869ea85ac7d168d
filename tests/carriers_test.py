"""Where the fixed network has 8-bit carriers: everywhere but between an operator and its one quantizer."""

import pytest
import tensorflow as tf
import tf_keras as keras

from mmx_tf import augment
from mmx_tf.folding import carriers
from mmx_tf.network import graph
from mmx_tf.network.heads import is_softmax

layers = keras.layers


def conv(name, **options):
    return layers.Conv2D(4, 3, padding="same", name=name, **options)


def plan(body, head=True):
    """Carriers of stem -> ReLU6 -> body -> logits by the name of the layer whose output they quantize."""
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.ReLU(6.0, name="stem_relu")(conv("stem")(inputs))
    x = body(x)
    if head:
        x = layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D(name="gap")(x))
    search = augment(keras.Model(inputs, x), allow_unexportable=True)
    planned = carriers.plan(search.network)
    tensors = [*search.network.inputs, *(node.outputs for node in graph.nodes(search.network))]
    found = {tensor.node.layer.name: planned[id(tensor)] for tensor in tensors if id(tensor) in planned}
    assert len(found) == len(planned)
    return found


def last(x):
    """A searched layer and a ReLU, so that what comes before is in the middle of the network."""
    return layers.ReLU(name="last_relu")(conv("last")(x))


AROUND_GAP = {"last_relu", "logits"}
"""Every network here ends ReLU -> mean -> dense: the mean needs a grid of its own for its input."""


def test_a_plain_chain_needs_none_but_around_the_mean_and_at_the_logits():
    planned = plan(last)
    assert planned.keys() == AROUND_GAP
    assert planned["logits"].signed and not planned["last_relu"].signed
    assert {carrier.bits for carrier in planned.values()} == {8}
    assert planned["logits"] is not planned["last_relu"]
    assert planned["logits"].name == "logits_carrier"


def test_batch_norm_between_convolution_and_relu_is_inside_the_operator():
    def body(x):
        return last(layers.ReLU(name="r")(layers.BatchNormalization(name="bn")(conv("c")(x))))

    assert plan(body).keys() == AROUND_GAP


@pytest.mark.parametrize(
    "relu", [layers.LeakyReLU(), layers.ReLU(negative_slope=0.1), layers.ReLU(threshold=0.5)]
)
def test_a_relu_that_is_not_fused_has_a_carrier_before_it(relu):
    assert plan(lambda x: last(relu(conv("c")(x)))).keys() == {"c", *AROUND_GAP}


def test_a_residual_addition_has_carriers_at_its_inputs():
    planned = plan(lambda x: last(layers.Add(name="add")([x, conv("branch")(x)])))
    # The sum itself feeds one quantizer only.
    assert planned.keys() == {"stem_relu", "branch", *AROUND_GAP}
    assert planned["stem_relu"] is not planned["branch"]
    assert not planned["stem_relu"].signed and planned["branch"].signed


def test_a_sum_with_several_consumers_has_a_carrier_too():
    def body(x):
        x = layers.Add(name="first")([x, conv("a")(x)])
        return last(layers.Add(name="second")([x, conv("b")(x)]))

    assert plan(body).keys() == {"stem_relu", "a", "first", "b", *AROUND_GAP}


def test_a_relu_after_a_sum_is_inside_the_operator():
    planned = plan(lambda x: last(layers.ReLU(name="r")(layers.Add(name="add")([x, conv("branch")(x)]))))
    assert planned.keys() == {"stem_relu", "branch", *AROUND_GAP}


@pytest.mark.parametrize("signed_first", [False, True])
def test_a_concatenation_shares_one_carrier_among_its_inputs(signed_first):
    def body(x):
        left = layers.ReLU(name="left_relu")(conv("left")(x))
        right = conv("right")(x)
        return last(layers.Concatenate(name="both")([right, left] if signed_first else [left, right]))

    planned = plan(body)
    assert planned.keys() == {"stem_relu", "left_relu", "right", *AROUND_GAP}
    # One signed input makes the shared grid signed.
    assert planned["left_relu"] is planned["right"] and planned["right"].signed
    assert planned["stem_relu"] is not planned["right"]


@pytest.mark.parametrize(("other", "floor"), [("relu", -0.375), ("linear", None)])
def test_a_shared_grid_reaches_down_to_the_lowest_floor(other, floor):
    def body(x):
        x = conv("left")(x)
        left = layers.Multiply(name="hard_swish")([x, layers.ReLU(6.0)(x + 3.0) / 6.0])
        right = layers.Activation(other, name="other")(conv("right")(left))
        return last(layers.Concatenate(name="both")([left, right]))

    planned = plan(body)
    shared = planned["hard_swish"]
    assert shared is planned["other" if other == "relu" else "right"]
    assert shared.signed and shared.floor == (pytest.approx(floor) if floor else None)
    # Of what the hard-swish multiplies, nothing is known.
    assert planned["left"].signed and planned["left"].floor is None


def test_nested_concatenations_share_one_carrier():
    def body(x):
        inner = layers.Concatenate(name="inner")([x, layers.ReLU(name="r")(conv("a")(x))])
        return last(layers.Concatenate(name="outer")([inner, layers.ReLU(name="s")(conv("b")(inner))]))

    planned = plan(body)
    assert planned.keys() == {"stem_relu", "r", "s", *AROUND_GAP}
    assert planned["stem_relu"] is planned["r"] is planned["s"]
    assert not planned["s"].signed


def test_a_gate_that_is_joined_gets_the_carrier_of_the_others_besides():
    def body(x):
        gate = layers.Activation("sigmoid", name="gate")(conv("a")(x))
        return last(layers.Concatenate(name="join")([layers.Reshape((8, 8, 4))(gate), x]))

    planned = plan(body)
    assert planned.keys() == {"stem_relu", "a", "gate", *AROUND_GAP}
    assert planned["gate"] is planned["stem_relu"] and planned["gate"].uses == 2
    alone = plan(lambda x: last(layers.Activation("hard_sigmoid", name="gate")(conv("a")(x))))
    assert alone.keys() == {"a", *AROUND_GAP}


def test_an_average_pooling_that_pads_has_one_carrier_before_and_after():
    planned = plan(lambda x: last(layers.AveragePooling2D(3, padding="same", name="pool")(x)))
    assert planned.keys() == {"stem_relu", "pool", *AROUND_GAP}
    assert planned["stem_relu"] is planned["pool"]


@pytest.mark.parametrize(
    ("options", "whole"),
    [
        ({}, True), ({"padding": "same"}, True), ({"pool_size": 3, "strides": 2}, True),
        ({"pool_size": 3, "strides": 2, "padding": "same"}, False), ({"pool_size": (2, 4)}, True),
        ({"pool_size": (2, 3), "padding": "same"}, False), ({"pool_size": (8, 3), "strides": 1}, True),
        ({"pool_size": 1, "strides": 2, "padding": "same"}, True),
    ],
)  # fmt: skip
def test_an_average_pooling_of_whole_windows_has_a_grid_of_its_own(options, whole):
    pool = layers.AveragePooling2D(**options)
    assert carriers.averages_windows(pool, (None, 8, 8, 4)) is whole
    if whole:
        assert plan(lambda x: last(layers.AveragePooling2D(**options, name="pool")(x))).keys() == {
            "stem_relu", *AROUND_GAP
        }  # fmt: skip


@pytest.mark.parametrize("linear", [False, True])
def test_a_global_mean_has_a_carrier_at_its_input_and_keeps_its_sign(linear):
    planned = plan(lambda x: conv("last")(x) if linear else last(x))
    assert planned.keys() == {"last" if linear else "last_relu", "logits"}
    assert planned["last" if linear else "last_relu"].signed is linear


@pytest.mark.parametrize(
    "commuting",
    [
        lambda x: layers.MaxPooling2D()(x),
        lambda x: layers.ZeroPadding2D()(x),
        lambda x: layers.Dropout(0.1)(x),
        lambda x: layers.Reshape((4, 16, 4))(x),
        lambda x: layers.MaxPooling2D()(layers.ZeroPadding2D()(layers.Dropout(0.1)(x))),
    ],
)
def test_layers_that_commute_with_a_quantizer_need_none(commuting):
    assert plan(lambda x: last(commuting(x))).keys() == AROUND_GAP


def test_flatten_and_dense_need_none_but_the_logits():
    def body(x):
        x = layers.Dense(4, activation="relu", name="hidden")(layers.Flatten()(x))
        return layers.Dense(3, name="logits")(x)

    assert plan(body, head=False).keys() == {"logits"}


def test_a_tensor_with_two_consumers_has_a_carrier():
    def body(x):
        return layers.Add(name="add")([last(x), conv("other")(x)])

    assert plan(body).keys() == {"stem_relu", "last_relu", "other", "add", "logits"}


def test_two_consumers_behind_a_commuting_layer_have_one_before_it():
    def body(x):
        x = layers.MaxPooling2D(name="pool")(x)
        return layers.Add(name="add")([last(x), conv("other")(x)])

    planned = plan(body)
    assert planned.keys() == {"stem_relu", "last_relu", "other", "add", "logits"}


def test_a_final_softmax_has_none_behind_the_logits():
    def body(x):
        x = layers.GlobalAveragePooling2D()(last(x))
        return layers.Dense(3, activation="softmax", name="logits")(x)

    assert plan(body, head=False).keys() == {"last_relu", "logits"}


def test_a_commuting_layer_at_the_end_leaves_the_carrier_at_the_logits():
    assert plan(lambda x: layers.Flatten()(conv("logits")(last(x))), head=False).keys() == {"logits"}


def test_an_image_with_two_consumers_has_a_carrier_behind_its_rescaling():
    def planned(rescaling, second):
        inputs = keras.Input((8, 8, 3), name="image")
        x = layers.Rescaling(1 / 255, name="rescaling")(inputs) if rescaling else inputs
        y = conv("a")(x)
        y = layers.Concatenate()([y, conv("b")(x)]) if second else y
        outputs = layers.Dense(3, name="logits")(layers.Flatten()(conv("c")(y)))
        network = augment(keras.Model(inputs, outputs), allow_unexportable=True).network
        plan = carriers.plan(network)
        return [
            name for tensor, name in tensors(network) if tensor in plan and name in ("image", "rescaling")
        ]

    def tensors(network):
        outputs = [*network.inputs, *(node.outputs for node in graph.nodes(network))]
        return [(id(tensor), tensor.node.layer.name) for tensor in outputs]

    assert planned(rescaling=False, second=False) == planned(rescaling=True, second=False) == []
    assert planned(rescaling=False, second=True) == ["image"]
    # The rescaling is part of the image's quantization, so the carrier is behind it.
    assert planned(rescaling=True, second=True) == ["rescaling"]


def test_an_operator_given_its_tensor_by_keyword():
    planned = plan(lambda x: last(tf.math.subtract(conv("c")(x), y=x)))
    assert {"stem_relu", "c"} <= planned.keys()


@pytest.mark.parametrize(
    ("layer", "fusable"),
    [
        (layers.ReLU(), True),
        (layers.ReLU(6.0), True),
        (layers.ReLU(1.0), True),
        (layers.ReLU(1.0, negative_slope=0.2), False),
        (layers.LeakyReLU(0.0), False),
        (layers.ReLU(negative_slope=0.2), False),
        (layers.ReLU(threshold=1.0), False),
        (layers.Activation("sigmoid"), False),
    ],
)
def test_is_fusable_activation(layer, fusable):
    assert carriers.is_fusable_activation(layer) is fusable


def test_is_softmax():
    assert is_softmax(layers.Softmax())
    assert is_softmax(layers.Activation("softmax"))
    assert not is_softmax(layers.Activation("sigmoid"))
    assert not is_softmax(layers.ReLU())
