"""Networks of one and two weighted layers: nothing is searched, and they are exported at their ends' bits."""

import numpy as np
import pytest
import tf_keras as keras

import mmx_tf
from mmx_tf.export import inspect

L = keras.layers
NETWORKS = {
    "one layer": [L.Flatten(), L.Dense(10, name="logits")],
    "two layers": [L.Conv2D(4, 3, activation="relu", name="stem"), L.Flatten(), L.Dense(10, name="logits")],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "budget",
    [{"target_average_bits": 4}, {"target_bops": 1e6, "weight_bits": (8, 4)}, {}],
    ids=["average", "weights", "none"],
)
def test_from_float_to_a_verified_file(name, budget, digits, caplog):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((16, 16, 1))
    outputs = inputs
    for layer in NETWORKS[name]:
        outputs = type(layer).from_config(layer.get_config())(outputs)
    model = keras.Model(inputs, outputs, name="small")
    with caplog.at_level("WARNING", logger="absl"):
        search = mmx_tf.augment(model, **budget)
    assert "first or last ones, which keep 8 bits: there is nothing to search" in caplog.text
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    data = digits.train(batch_size=64, seed=0).take(3)
    search.compile("sgd", loss, metrics=["accuracy"])
    logs = search.fit(data, epochs=2, verbose=0).history
    assert all(np.isfinite(value).all() for value in logs.values())
    selection = search.bit_selection()
    assert {(layer.weight_bits, layer.activation_bits) for layer in selection.layers} == {(8, 8)}
    fixed = mmx_tf.rebuild(search, selection)
    fixed.compile("sgd", loss)
    fixed.fit(data, verbose=0)
    folded = mmx_tf.fold(fixed)
    content = mmx_tf.convert(folded)
    report = mmx_tf.verify(folded, content, digits.evaluation(batch_size=90))
    assert (report.code_disagreement, report.partitions) == (0.0, 1)
    assert {layer.weight_bits for layer in inspect.layers(content) if layer.bops} == {8}
