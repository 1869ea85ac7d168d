"""What a notebook is told without an error: warnings, and what goes on as it should."""

import re

import numpy as np
import pytest
import tf_keras as keras
from listening import logged
from notebook_stages import CROSSENTROPY, labels_to_ten, stages_of, tiny_network, uncompiled

import mmx_tf


@pytest.fixture(scope="module")
def stages(digits, tmp_path_factory):
    return stages_of(digits, tmp_path_factory.mktemp("notebook"))


def test_a_search_without_a_budget_is_told_what_it_does(stages, warnings):
    mmx_tf.augment(stages.float_model, bit_widths=(8, 4))
    assert re.search(r"no budget.*accuracy alone.*average_bits=6.*target_bops in \d+ to \d+", warnings[0])


def test_what_cannot_be_exported_can_be_allowed(warnings):
    mmx_tf.augment(tiny_network("log_softmax"), target_average_bits=4, allow_unexportable=True)
    assert "fold will refuse 'odd'" in warnings[0]


def test_a_batch_of_more_images_than_there_are_is_a_warning(stages, warnings):
    stages.fixed.fit(stages.images[:8], stages.labels[:8], batch_size=100, verbose=0)
    assert any("batch_size=100, but there are 8 images" in line for line in warnings)


def test_running_statistics_that_will_not_follow_are_told_in_a_notebook_too(stages):
    with logged() as lines:
        stages.fixed.fit(stages.images, stages.labels, batch_size=32, verbose=0)
    assert any("momentum of 0.99 is slow for the" in line for line in lines)
    on_folded_graph = mmx_tf.fold_for_training(stages.fixed)
    on_folded_graph.compile("sgd", CROSSENTROPY)
    with logged() as lines:
        on_folded_graph.fit(stages.images, stages.labels, batch_size=32, verbose=0)
    assert not lines


def test_a_fit_after_a_failed_validation_takes_its_own_validation_data(stages):
    spoilt = (stages.images, labels_to_ten(stages.labels))
    with pytest.raises(ValueError, match="validation"):
        stages.fixed.fit(stages.images, stages.labels, verbose=0, validation_data=spoilt)
    history = stages.fixed.fit(stages.images, stages.labels, verbose=0, validation_split=0.25).history
    assert np.isfinite(history["val_loss"]).all()


def test_a_loss_that_takes_probabilities_for_logits_is_a_warning(stages, warnings):
    stages.fixed.compile("sgd", "sparse_categorical_crossentropy")
    stages.fixed.compile("sgd", CROSSENTROPY)
    assert [line for line in warnings if "takes" in line] == [
        "the loss takes probabilities, but the network ends without softmax or sigmoid: it will train for "
        "something else. Give the loss from_logits=True."
    ]


def test_costs_of_a_dict_may_have_numbers_as_bit_widths(stages):
    table = {"unit": "us", "layers": {"middle": {8: 4.0, 4: 2.0}}}
    search = mmx_tf.augment(stages.float_model, bit_widths=(8, 4), cost_table=table, target_cost=3)
    assert search.budget.others[0][0].table == ((4.0, 2.0),)


def test_a_loaded_fixed_network_goes_on_training_as_it_was_compiled(stages):
    path = stages.folder / "compiled.keras"
    stages.fixed.compile(keras.optimizers.SGD(0.125), CROSSENTROPY)
    stages.fixed.save(path)
    loaded = keras.models.load_model(path)
    assert float(loaded.optimizer.learning_rate) == 0.125
    assert np.isfinite(loaded.fit(stages.images, stages.labels, verbose=0).history["loss"]).all()


def test_every_metric_of_a_search_is_told_once(stages):
    names = [metric.name for metric in stages.search.metrics]
    assert sorted(set(names)) == sorted(names) and "search_loss" in names


def test_frozen_layers_are_told(stages, warnings):
    network = tiny_network()
    network.get_layer("middle").trainable = False
    mmx_tf.augment(network, bit_widths=(8, 4), target_average_bits=6)
    assert "1 layer(s) of tiny are frozen (middle); bit selection and weight training" in warnings[0]


def test_images_that_set_step_sizes_in_inference_are_told(stages, warnings):
    fixed = uncompiled(stages.fixed, stages)
    fixed.predict(stages.images[:4], verbose=0)
    fixed.predict(stages.images[:4], verbose=0)
    assert [line for line in warnings if "has seen no image" in line] == warnings[:1]
