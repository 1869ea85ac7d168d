"""Settings of a search: each declared once, and a flag, an argument, an attribute and an entry of a file."""

import dataclasses
import inspect

import numpy as np
import pytest
from networks import small_network

import mmx_tf
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.recipe.search_settings import SearchSettings
from mmx_tf.run import pipeline

OTHER = {
    "regularizer_weight": 0.25,
    "alpha_initial_stddev": 0.001,
    "meta_training": False,
    "train_weights_in_search": True,
    "batch_norm_update": "none",
}
FIELDS = {field.name: field for field in dataclasses.fields(SearchSettings)}


def test_every_setting_has_another_value_here():
    assert OTHER.keys() == FIELDS.keys()
    assert all(OTHER[name] != field.default for name, field in FIELDS.items())


@pytest.mark.parametrize("name", FIELDS)
def test_a_flag_reaches_the_search_and_its_file(name, digits):
    recipe = Recipe.from_flagfile(f"--target_average_bits=6\n--{name}={OTHER[name]}")
    assert [other for other in FIELDS if getattr(recipe, other) != FIELDS[other].default] == [name]
    search = pipeline.search_network(recipe, small_network(), digits)
    assert getattr(search, name) == OTHER[name] == search.get_config()[name]
    again = mmx_tf.SearchModel.from_config(search.get_config())
    assert again.settings == search.settings != SearchSettings()


def test_help_and_docstring_have_the_same_sentence():
    parameters = inspect.signature(mmx_tf.augment).parameters
    documented = " ".join(mmx_tf.augment.__doc__.split())
    for name, field in FIELDS.items():
        assert parameters[name].default == field.default and parameters[name].annotation is field.type
        assert f"{name}: {field.metadata['help']}" in documented


def test_a_config_of_before_is_that_of_today():
    """Files of searches had these entries before the settings were one value."""
    search = mmx_tf.augment(small_network(), target_average_bits=6, meta_training=False)
    config = search.get_config()
    # Noise came later; a config without its entry has no noise.
    assert config.pop("alpha_initial_stddev") == 0.0
    assert config.keys() == {
        "name", "network", "budget", "regularizer_weight", "meta_epochs", "meta_training",
        "train_weights_in_search", "batch_norm_update", "output_name", "finished_epochs",
    }  # fmt: skip
    assert (config["meta_epochs"], config["train_weights_in_search"]) == (0, True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"regularizer_weight": float("nan")}, "regularizer_weight=nan: a number of 0 or more."),
        ({"regularizer_weight": "1"}, "regularizer_weight='1': a number of 0 or more."),
        ({"meta_training": 1}, "meta_training=1: True or False."),
        ({"train_weights_in_search": "no"}, "train_weights_in_search='no': True or False."),
        ({"batch_norm_update": "median"}, "batch_norm_update='median': one of mean, sequential, none."),
        ({"batch_norm_update": 3}, "batch_norm_update=3: one of mean, sequential, none."),
    ],
)
def test_other_values_are_refused_before_the_network_is_looked_at(given, message):
    with pytest.raises(ValueError) as refused:
        mmx_tf.augment("no such file", **given)
    assert str(refused.value) == message


def test_numbers_and_switches_of_numpy_are_taken():
    settings, others = SearchSettings.parted(
        {"regularizer_weight": np.float32(2), "meta_training": np.bool_(1)}
    )
    assert settings == SearchSettings(regularizer_weight=2.0) and not others
    assert [type(value) for value in settings.search_settings.values()] == [
        field.type for field in FIELDS.values()
    ]


def test_a_setting_of_a_search_is_read_only():
    search = mmx_tf.augment(small_network(), target_average_bits=6)
    with pytest.raises(AttributeError):
        search.regularizer_weight = 2.0


@pytest.mark.parametrize("given", [{"train_weights_in_search": True}, {"meta_training": False}])
def test_targets_that_would_each_train_weights_are_refused(given):
    with pytest.raises(ValueError, match="2 targets: a search that trains weights has one"):
        mmx_tf.augment(small_network(), target_bops=[400_000, 450_000], **given)
