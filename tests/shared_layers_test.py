"""Layers and models that a network calls more than once: one for each call, whose weights start equal."""

import keras as keras3
import numpy as np
import pytest
import tf_keras as keras
from canonical_test import checked, functional, names_of

import mmx_tf
from mmx_tf.network.canonical import canonicalize
from mmx_tf.network.keras3 import as_tf_keras


def twice(L):
    """A convolution with its batch norm that is called twice, and a Dense that three branches share."""

    def body(x):
        conv, norm = L.Conv2D(3, 3, padding="same", name="again"), L.BatchNormalization(name="norm")
        for _ in range(2):
            x = L.ReLU()(norm(conv(x)))
        score = L.Dense(4, name="score")
        pooled = [L.GlobalAveragePooling2D()(x), L.GlobalMaxPooling2D()(x), L.Flatten()(x)[:, :3]]
        return L.Concatenate()([score(one) for one in pooled])

    return body


def siamese(L, Model, Input):
    """One backbone, which has a model of its own inside, on the two halves of an image."""
    inner = Input((8, 4, 4), name="inner_image")
    block = Model(inner, L.ReLU()(L.Conv2D(4, 3, padding="same", name="deep")(inner)), name="block")
    half = Input((8, 4, 3), name="half")
    x = L.Conv2D(4, 3, padding="same", activation="relu", name="stem")(half)
    x = L.GlobalAveragePooling2D()(block(block(x)))
    backbone = Model(half, L.Dense(5, name="features")(x), name="backbone")

    def body(image):
        left, right = L.Cropping2D(((0, 0), (0, 4)))(image), L.Cropping2D(((0, 0), (4, 0)))(image)
        apart = L.Subtract(name="apart")([backbone(left), backbone(right)])
        return L.Dense(2, activation="softmax", name="same")(apart)

    return body


BODIES = {
    "twice": (
        twice(keras.layers),
        "again, norm and score",
        ["again", "again_1", "score", "score_1", "score_1_1"],
    ),
    "siamese": (
        siamese(keras.layers, keras.Model, keras.Input),
        "stem, deep and features",
        ["stem", "deep", "deep_1", "stem_1", "deep_1_1", "deep_1_1_1", "features", "features_1"],
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_each_call_is_a_layer_and_is_told_of(case, warnings):
    body, _, names = BODIES[case]
    found = names_of(checked(functional(body)))
    assert set(names) <= set(found)
    (said,) = [line for line in warnings if "more than once" in line]
    for name in names:
        assert name.split("_")[0] in said
    assert "They are equal at first, and differ after weight training." in said


def test_a_layer_that_is_called_once_is_not_told_of(warnings):
    checked(functional(lambda x: keras.layers.ReLU()(keras.layers.Conv2D(2, 3)(x))))
    assert warnings == []


def test_so_it_is_in_keras_3():
    keras3.utils.set_random_seed(1)
    inputs = keras3.Input((8, 8, 3))
    network = keras3.Model(inputs, siamese(keras3.layers, keras3.Model, keras3.Input)(inputs))
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    canonical = canonicalize(as_tf_keras(network))
    np.testing.assert_allclose(canonical(images), network(images), rtol=1e-5, atol=1e-6)
    assert {"stem", "stem_1", "deep_1_1_1"} <= set(names_of(canonical))


@pytest.mark.slow
@pytest.mark.parametrize("case", BODIES)
def test_shared_layers_go_all_the_way_and_part_in_weight_training(case):
    rng = np.random.default_rng(0)
    network = functional(BODIES[case][0])
    images = rng.normal(size=(32, 8, 8, 3)).astype(np.float32)
    labels = rng.integers(0, 2, 32)
    loss = "sparse_categorical_crossentropy" if case == "siamese" else "mse"
    if case == "twice":
        labels = rng.normal(size=(32, 12)).astype(np.float32)
    search = mmx_tf.augment(network, bit_widths=(8, 4), target_average_bits=6)
    search(images, branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([i % 2 for i in range(len(search.quantizers))]))

    def kernels(name):
        return [
            layer.layer.get_weights()[0]
            for layer in fixed.layers
            if getattr(layer, "layer", None) is not None and layer.layer.name.split("_")[0] == name
        ]

    shared = kernels("again" if case == "twice" else "stem")
    np.testing.assert_array_equal(*shared)
    fixed.compile(keras.optimizers.SGD(0.01), loss)
    fixed.fit(images, labels, verbose=0)
    first, second = kernels("again" if case == "twice" else "stem")
    assert np.abs(first - second).max() > 0
    folded = mmx_tf.fold(fixed)
    report = mmx_tf.verify(folded, mmx_tf.convert(folded), [(images, labels)])
    assert (report.code_disagreement, report.partitions) == (0.0, 1)
    assert not any(tensor.differing for tensor in report.tensors)
