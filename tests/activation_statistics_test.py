"""The numbers beside Figures 1, 2 and 6, against hand arithmetic."""

import math

import numpy as np
import pytest

from mmx_tf.figures import statistics

# Standard deviations 1, 2 and 1; the third is the first, shifted by 3.
ONE, TWO, SHIFTED = np.array([1.0, -1.0]), np.array([2.0, -2.0]), np.array([4.0, 2.0])


def test_deviation_ratio():
    assert statistics.deviation_ratio([ONE, TWO]) == pytest.approx(2.0)
    assert statistics.deviation_ratio([ONE, SHIFTED]) == pytest.approx(1.0)
    assert statistics.deviation_ratio([ONE, np.zeros(2)]) is None


def test_distance():
    # W1 = (|-1 - -2| + |1 - 2|) / 2 = 1; pooled deviation sqrt((1 + 4) / 2).
    assert statistics.distance([ONE, TWO]) == pytest.approx(1 / math.sqrt(2.5))
    # Pairs: 1, 3 and (|-2 - 2| + |2 - 4|) / 2 = 3; variances 1, 4 and 1.
    assert statistics.distance([ONE, TWO, SHIFTED]) == pytest.approx((1 + 3 + 3) / 3 / math.sqrt(2))
    # Order does not matter, nor shape.
    assert statistics.distance([np.array([[1.0, 2.0]]), np.array([2.0, 1.0])]) == 0.0
    assert statistics.distance([np.ones(3), np.ones(3)]) is None


@pytest.mark.parametrize("samples", [[ONE], [ONE, np.ones(3)]])
def test_distance_refuses_what_has_no_pairs(samples):
    with pytest.raises(ValueError, match="two or more of equal size"):
        statistics.distance(samples)


def test_explained_share():
    # Means 2 and 6, of all 4: between 2 * 4 + 2 * 4 = 16; total 9 + 1 + 1 + 9 = 20.
    assert statistics.explained_share([1.0, 3.0, 5.0, 7.0], [8, 8, 3, 3]) == pytest.approx(0.8)
    # Groups of equal means explain nothing; groups of constants everything.
    assert statistics.explained_share([1.0, 7.0, 3.0, 5.0], [8, 8, 3, 3]) == 0.0
    assert statistics.explained_share([1.0, 5.0, 1.0], [8, 3, 8]) == 1.0
    assert statistics.explained_share([2.0, 2.0], [8, 3]) is None


def test_relative_range():
    # Means 2, 6 and 7 of all 4.6.
    assert statistics.relative_range([1.0, 3.0, 5.0, 7.0, 7.0], [8, 8, 3, 3, 4]) == pytest.approx(5 / 4.6)
    assert statistics.relative_range([0.0, 0.0], [8, 3]) is None


def test_chance_share():
    # Seven steps in blocks of two are four draws of three groups.
    assert statistics.chance_share([8, 8, 4, 4, 3, 3, 8], block=2) == pytest.approx(2 / 3)
    assert statistics.chance_share([8, 8], block=2) == 0.0


def test_chance_share_is_what_random_labels_reach():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=20), 5)
    shares = [
        statistics.explained_share(values, np.repeat(rng.permutation([0, 1, 2, 2] * 5), 5))
        for _ in range(2000)
    ]
    assert np.mean(shares) == pytest.approx(statistics.chance_share([0, 1, 2, 2] * 25, block=5), rel=0.05)


def test_histograms_have_edges_in_common():
    edges, (one, two) = statistics.histograms([np.array([0.0, 1.0]), np.array([3.0, 4.0, 4.0])], bins=4)
    assert edges.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert one.tolist() == [1, 1, 0, 0] and two.tolist() == [0, 0, 0, 3]
    assert statistics.histograms([np.ones(3)], bins=2)[1][0].tolist() == [3, 0]


def test_largest_takes_each_number_alone():
    found = statistics.largest([{"a": 1.0, "b": None}, {"a": 0.5, "b": 2.0}])
    assert found == {"a": 1.0, "b": 2.0}
