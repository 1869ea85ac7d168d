"""Every test begins with the same random state, whichever ran before it."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from seeding import forget, same_random_state


def draw():
    return tf.random.uniform([4])


@pytest.fixture(scope="module")
def shared():
    """A traced step and a dataset that draw, which several tests share."""
    return tf.function(draw), tf.data.Dataset.range(4).map(lambda number: tf.random.uniform([4]))


DRAWS = {
    "an operation": lambda *_: tf.random.normal([4]),
    "an operation with a seed of its own": lambda *_: tf.random.normal([4], seed=3),
    "an initializer": lambda *_: keras.layers.Dense(4)(tf.ones([1, 4])),
    "dropout": lambda *_: keras.layers.Dropout(0.5)(tf.ones([64]), training=True),
    "a traced step": lambda step, _: step(),
    "a shuffled dataset": lambda *_: next(iter(tf.data.Dataset.range(64).shuffle(64).batch(64))),
    "a dataset that draws": lambda _, data: list(data),
    "numpy": lambda *_: np.random.normal(size=4),
}
DRAWN = {}


@pytest.mark.parametrize("again", ["first", "second"])
@pytest.mark.parametrize("name", DRAWS)
def test_a_test_draws_what_another_one_has_drawn(shared, name, again):
    numbers = np.asarray(DRAWS[name](*shared))
    np.testing.assert_array_equal(numbers, DRAWN.setdefault(name, numbers))
    # Each iterator of a dataset begins anew.
    assert (np.asarray(DRAWS[name](*shared)) != numbers).any() or name == "a dataset that draws"


@pytest.mark.parametrize("name", DRAWS)
def test_it_is_what_keras_gives_with_all_caches_cleared(shared, name):
    keras.utils.set_random_seed(0)
    expected = np.asarray(DRAWS[name](*shared))
    same_random_state()
    np.testing.assert_array_equal(np.asarray(DRAWS[name](*shared)), expected)


@pytest.mark.parametrize("name", DRAWS)
def test_a_random_operation_is_noticed_behind_a_module_that_made_none(name):
    forget()
    data = tf.data.Dataset.range(4).map(lambda number: tf.random.uniform([4]))
    made, drawn = (tf.function(draw), data), []
    for _ in range(2):
        same_random_state()
        drawn.append(np.asarray(DRAWS[name](*made)))
    np.testing.assert_array_equal(*drawn)


def test_no_step_is_optimized_anew_where_nothing_draws(digits, monkeypatch):
    """A network, its initializers, and `fit` on datasets and on arrays, which it shuffles."""
    from tensorflow.python import pywrap_tfe

    forget()
    cleared = []
    own = pywrap_tfe.TFE_ContextClearCaches
    monkeypatch.setattr(pywrap_tfe, "TFE_ContextClearCaches", lambda handle: cleared.append(own(handle)))
    inputs = keras.Input((16, 16, 1))
    network = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    network.compile("sgd", "mse")
    network.fit(digits.train(batch_size=4, seed=0).take(1), verbose=0)
    network.fit(np.ones((4, 16, 16, 1)), np.ones((4, 2)), verbose=0)
    same_random_state()
    assert cleared == []
    tf.random.normal([1])
    same_random_state()
    assert len(cleared) == 1
