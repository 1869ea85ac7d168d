"""A final softmax or sigmoid in front of Reshape, Flatten, Dropout or a linear activation, in every order."""

import itertools

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from canonical_test import checked, classes_of, functional

import mmx_tf
from mmx_tf.export import inspect
from mmx_tf.network.canonical import canonicalize
from mmx_tf.network.heads import activation_of
from mmx_tf.network.keras3 import as_tf_keras

L = keras.layers
IMAGES = np.random.default_rng(0).normal(size=(48, 8, 8, 3)).astype(np.float32)
SOFTMAXES = {
    "layer": lambda scores: L.Softmax()(scores),
    "activation layer": lambda scores: L.Activation("softmax")(scores),
    "tensorflow": lambda scores: tf.nn.softmax(scores),
    "activation": None,
}
BEHIND = {
    "reshape": lambda x: L.Reshape((16, 5))(x),
    "dropout": L.Dropout(0.3, name="late"),
    "linear": L.Activation("linear", dtype="float32", name="straight"),
    "tf.reshape": lambda x: tf.reshape(x, (-1, 4, 4, 5)),
}


def scores(x, activation=None):
    return L.Conv2D(5, 1, activation=activation, name="scores")(L.Conv2D(4, 5, activation="relu")(x))


def with_softmax(kind):
    def body(x):
        return scores(x, "softmax") if kind == "activation" else SOFTMAXES[kind](scores(x))

    return body


ORDERS = [
    order
    for count in (1, 2, 4)
    for order in itertools.permutations(BEHIND, count)
    if count < 4 or order[0] == "dropout"
]


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_a_softmax_becomes_the_last_layer(order):
    def body(x):
        x = with_softmax("activation")(x)
        for name in order:
            layer = BEHIND[name]
            x = type(layer).from_config(layer.get_config())(x) if isinstance(layer, L.Layer) else layer(x)
        return x

    network = checked(functional(body))
    kinds = classes_of(network)
    assert kinds[-1] == "Activation" and kinds.count("Activation") == 1
    assert "Dropout" not in kinds


def vector(activation):
    def body(x):
        return L.Dense(5, activation=activation)(L.GlobalAveragePooling2D()(L.Conv2D(4, 3)(x)))

    return body


KEPT = {
    "flatten of pixels": lambda x: L.Flatten()(scores(x, "softmax")),
    "reshape across": lambda x: L.Reshape((20, 4))(scores(x, "softmax")),
    "crop": lambda x: L.Cropping2D(1)(scores(x, "softmax")),
    "part of the classes": lambda x: scores(x, "softmax")[..., 1:],
    "of the rows": lambda x: L.Reshape((16, 5))(L.Softmax(axis=1)(scores(x))),
    "of rows at the end": lambda x: L.Softmax(axis=1)(scores(x)),
    "taken too": lambda x: L.Dense(2)(L.Reshape((5,))(vector("softmax")(x))),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_another_order_would_change_stays(case):
    model = functional(KEPT[case])
    network = checked(model)
    assert classes_of(network)[-1] != "Activation"
    # What is behind them is no softmax of the outputs.
    assert activation_of(network) is None and activation_of(model) is None


def test_outputs_that_share_a_softmax_keep_it():
    def body(x):
        shares = vector("softmax")(x)
        return [L.Reshape((1, 5), name="row")(shares), L.Reshape((5, 1), name="column")(shares)]

    network = canonicalize(functional(body))
    assert classes_of(network).count("Activation") == 1 and classes_of(network)[-1] == "Reshape"


def test_a_dropout_that_is_left_out_is_told_of(warnings):
    canonicalize(functional(lambda x: L.Dropout(0.5, name="late")(vector("softmax")(x))))
    assert [line for line in warnings if "act in training alone and are left out: late." in line]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("softmax", "behind"),
    [(softmax, "flatten") for softmax in SOFTMAXES]
    + [("activation", behind) for behind in ("reshape", "dropout", "linear", "squeeze")],
)
def test_files_hold_logits_and_classes(softmax, behind):
    def body(x):
        if behind in ("flatten", "squeeze"):
            x = L.MaxPooling2D(4)(L.Conv2D(4, 5, activation="relu", name="deep")(x))
            activation = "softmax" if softmax == "activation" else None
            x = L.Conv2D(5, 1, activation=activation, name="scores")(x)
            x = SOFTMAXES[softmax](x) if SOFTMAXES[softmax] else x
            return L.Flatten()(x) if behind == "flatten" else tf.squeeze(x, [1, 2])
        x = with_softmax(softmax)(x)
        layer = BEHIND[behind]
        return type(layer).from_config(layer.get_config())(x) if isinstance(layer, L.Layer) else layer(x)

    model = functional(body)
    folded, labels = exported(model)
    data = mmx_tf.convert(folded)
    report = mmx_tf.verify(folded, data, [(IMAGES, labels)])
    task = "classification" if behind in ("flatten", "squeeze") else "segmentation"
    assert (report.task, report.code_disagreement, report.partitions) == (task, 0.0, 1)
    kinds = [count.kind for count in inspect.summary(data).operators]
    assert "SOFTMAX" not in kinds and folded.output_shape == model.output_shape
    if task == "classification":
        # One softmax, of the logits: shares as the fixed network has them.
        data = mmx_tf.convert(folded, output_type="class")
        assert [layer.kind for layer in inspect.summary(data).layers].count("SOFTMAX") == 1
        assert mmx_tf.verify(folded, data, [(IMAGES, labels)]).code_disagreement == 0.0


def exported(model):
    """The folded network of a float one whose step sizes are set, and labels of its shape."""
    keras.utils.set_random_seed(3)
    search = mmx_tf.augment(model, bit_widths=(8, 4), target_average_bits=6)
    search(IMAGES, branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([0] * len(search.quantizers)))
    fixed(IMAGES, training=True)
    rng = np.random.default_rng(1)
    labels = [rng.integers(0, 2, (48, *tensor.shape[1:-1])) for tensor in fixed.outputs]
    return mmx_tf.fold(fixed), labels[0] if len(labels) == 1 else dict(
        zip(model.output_names, labels, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("behind", ["reshape", "flatten", "dropout", "linear"])
def test_a_final_sigmoid_is_exact_in_front_of_them(behind):
    last = {
        "reshape": lambda x: L.Reshape((1,))(L.Reshape((1, 1))(x)),
        "flatten": lambda x: L.Flatten()(L.Reshape((1, 1))(x)),
        "dropout": L.Dropout(0.2),
        "linear": L.Activation("linear"),
    }[behind]

    def body(x):
        return last(L.Dense(1, activation="sigmoid")(vector("relu")(x)))

    model = functional(body)
    assert activation_of(model) == "sigmoid"
    folded, _ = exported(model)
    labels = np.arange(48) % 2
    report = mmx_tf.verify(folded, mmx_tf.convert(folded, output_type="class"), [(IMAGES, labels)])
    assert (report.task, report.code_disagreement) == ("binary", 0.0)


def test_each_of_several_outputs_ends_with_its_own():
    def body(x):
        x = L.Conv2D(6, 5, activation="relu", name="features")(x)
        pixels = L.Conv2D(3, 1, activation="softmax", name="pixels")(x)
        pooled = L.GlobalAveragePooling2D(keepdims=True)(x)
        kind = L.Flatten(name="kind")(L.Softmax()(L.Conv2D(5, 1, name="kind_scores")(pooled)))
        faulty = L.Dense(1, activation="sigmoid", name="faulty_score")(L.GlobalMaxPooling2D()(x))
        return [L.Reshape((16, 3), name="map")(pixels), kind, L.Dropout(0.1, name="faulty")(faulty)]

    model = functional(body)
    folded, labels = exported(model)
    data = mmx_tf.convert(folded, output_type={"kind": "class", "faulty": "class"})
    report = mmx_tf.verify(folded, data, [(IMAGES, labels)])
    assert {name: one.task for name, one in report.outputs.items()} == {
        "map": "segmentation", "kind": "classification", "faulty": "binary",
    }  # fmt: skip
    assert report.code_disagreement == 0.0
    assert [layer.kind for layer in inspect.summary(data).layers].count("SOFTMAX") == 1


def test_softmaxes_of_keras_3_come_last_too():
    inputs = keras3.Input((8, 8, 3))
    x = keras3.layers.Conv2D(5, 5, activation="softmax")(inputs)
    x = keras3.layers.Dropout(0.2)(keras3.ops.reshape(x, (-1, 16, 5)))
    network = keras3.Model(inputs, keras3.layers.Activation("linear")(x))
    canonical = canonicalize(as_tf_keras(network))
    np.testing.assert_allclose(canonical(IMAGES), network(IMAGES), rtol=1e-5, atol=1e-6)
    assert classes_of(canonical)[0] == "Conv2D" and classes_of(canonical)[-1] == "Activation"
    assert "Dropout" not in classes_of(canonical)
