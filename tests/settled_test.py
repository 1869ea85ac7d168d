"""Whether a search is finished: entropy, margins and flips by hand."""

import math

import numpy as np
import pytest

from mmx_tf.metamix.settled import SearchState, entropies, margins
from mmx_tf.recipe.search_length import SearchLength

# softmax: (1/2, 1/4, 1/4) and (1/3, 1/3, 1/3).
ALPHA = [[math.log(2), 0.0, 0.0], [5.0, 5.0, 5.0]]


def test_entropies_and_margins_by_hand():
    # ln 2 / 2 + 2 * ln 4 / 4 = 1.5 ln 2.
    np.testing.assert_allclose(entropies(ALPHA), [1.5 * math.log(2) / math.log(3), 1.0], rtol=1e-12)
    np.testing.assert_allclose(margins(ALPHA), [0.25, 0.0], atol=1e-12)
    np.testing.assert_allclose(entropies([[900.0, 0.0]]), [0.0], atol=1e-12)
    np.testing.assert_allclose(margins([[900.0, 0.0]]), [1.0], rtol=1e-12)


def test_a_search_that_flips_is_not_finished():
    clear = [[4.0, 0.0]] * 20
    state = SearchState.of(clear, flips=[9, 9, *[0] * 17, 2])
    # A tenth of 20 steps are the last 2.
    assert (state.last_steps, state.flips, state.close, state.layers) == (2, 2, 0, 20)
    assert (
        not state.finished
        and "last 2 bit-search steps the most probable bits changed 2 times" in state.sentence
    )
    still = SearchState.of(clear, flips=[9, 9, *[0] * 18])
    assert still.finished and still.sentence.startswith("The search is finished")


def test_a_search_with_many_close_layers_is_not_finished():
    close = [[0.01, 0.0]] * 2
    # 2 of 20 are a tenth; 2 of 19 are more.
    assert SearchState.of([*close, *[[4.0, 0.0]] * 18], flips=[0]).finished
    state = SearchState.of([*close, *[[4.0, 0.0]] * 17], flips=[0])
    assert not state.finished and "in 2 of 19 layers" in state.sentence


def test_a_search_that_is_not_finished_says_how_many_epochs_are_enough():
    length = SearchLength(steps=20, steps_per_epoch=10, rate=0.05)
    state = SearchState.of([[0.0, 0.0]], flips=[0] * 20, length=length)
    # 6 / 0.05 = 120 steps.
    assert "120 are enough" in state.sentence and "--select_epochs=13" in state.sentence
    assert state.to_json()["length"] == {"steps": 20, "steps_per_epoch": 10, "rate": 0.05}


def test_rows_of_weights_count_too():
    state = SearchState.of([[4.0, 0.0]], [[0.0, 0.0, 0.0]])
    assert (state.layers, state.close, state.smallest_margin) == (2, 1, 0.0)
    # Nothing is known of steps.
    assert (state.last_steps, state.flips) == (0, 0)
    with pytest.raises(ValueError, match="no layer is searched"):
        SearchState.of(np.zeros((0, 3)))
    assert {"entropy", "finished", "sentence", "flips"} <= set(state.to_json())
