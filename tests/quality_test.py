"""Metrics of every task against values that were worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from mmx_tf.export.comparing.quality import MEASURES, Quality, decisions


def judged(task, outputs, labels, *, from_logits=True, batches=1):
    quality = Quality(task, from_logits=from_logits)
    outputs, labels = np.array(outputs, np.float32), np.array(labels)
    for some, of_some in zip(np.array_split(outputs, batches), np.array_split(labels, batches), strict=True):
        quality.add(some, of_some)
    assert list(quality.result()) == [measure.name for measure in MEASURES[task]]
    return quality.result()


def test_classification_the_first_of_equal_scores():
    outputs = [[1, 2, 0], [3, 3, 1], [0, 0, 5], [9, 1, 1]]
    assert judged("classification", outputs, [1, 1, 2, 0]) == {"accuracy": 0.75}


def test_binary_a_logit_of_zero_is_a_no():
    # Right: yes for 2, no for -1 and for 0; wrong: no for -3.
    found = judged("binary", [[2], [-1], [0], [-3]], [1, 0, 0, 1])
    # Of the four pairs (yes, no) the yes has the larger score in two: 2 > -1, 2 > 0, but -3 < -1, -3 < 0.
    assert found == {"binary_accuracy": 0.75, "auc": pytest.approx(0.5, abs=1e-3)}
    found = judged("binary", [[0.9], [0.2], [0.5], [0.1]], [1, 0, 0, 1], from_logits=False)
    assert found == {"binary_accuracy": 0.75, "auc": pytest.approx(0.5, abs=1e-3)}


def test_there_is_no_area_without_both_classes():
    assert judged("binary", [[2], [-1]], [1, 1]) == {"binary_accuracy": 0.5, "auc": None}


def test_multi_label():
    outputs, labels = [[1, -1, 2], [-1, 3, -2], [2, 2, -1]], [[1, 0, 1], [0, 1, 1], [0, 0, 0]]
    # Wrong are the -2 of the second image and both 2 of the third: 6 of 9, one image whole.
    found = judged("multi_label", outputs, labels)
    # Yes: 1, 2, 3, -2; no: -1, -1, 2, 2, -1. 1 beats 3 of the 5; 2 beats 3 and ties with 2 (half each); 3
    # beats 5; -2 none: (3 + 4 + 5) / 20.
    assert found == {
        "binary_accuracy": pytest.approx(6 / 9),
        "exact_match": pytest.approx(1 / 3),
        "auc": pytest.approx(0.6, abs=1e-3),
    }


def test_regression_in_the_labels_unit():
    # Errors 3, -4, 0, 1: mean 2, mean of squares 26 / 4.
    found = judged("regression", [[33], [6], [5], [11]], [[30.0], [10.0], [5.0], [10.0]])
    assert found == {"mean_absolute_error": 2.0, "root_mean_squared_error": pytest.approx(6.5**0.5)}


def test_segmentation():
    scores = np.eye(3)[[[[0, 0], [1, 2]], [[1, 1], [2, 0]]]]
    labels = [[[0, 1], [1, 2]], [[1, 1], [0, 0]]]
    # Named 0 0 1 2 1 1 2 0 for 0 1 1 2 1 1 0 0. Class 0: both 2, either 4; class 1: 3 of 4; class 2: 1 of 2.
    found = judged("segmentation", scores, labels)
    assert found == {"pixel_accuracy": 0.75, "mean_iou": pytest.approx((2 / 4 + 3 / 4 + 1 / 2) / 3)}


def test_a_mask_of_one_channel():
    # Named 1 0 1 0 for 1 1 1 0: the mask 2 of 3, the rest 1 of 2.
    found = judged("segmentation", [[[[5.0], [-5.0]], [[0.1], [0.0]]]], [[[1, 1], [1, 0]]])
    assert found == {"pixel_accuracy": 0.75, "mean_iou": pytest.approx((2 / 3 + 1 / 2) / 2)}


def test_decisions_have_the_shape_of_what_they_name():
    rng = np.random.default_rng(0)
    for task, shape, named in (
        ("classification", (5, 3), (5,)),
        ("binary", (5, 1), (5,)),
        ("multi_label", (5, 3), (5, 3)),
        ("segmentation", (5, 2, 2, 3), (5, 2, 2)),
        ("segmentation", (5, 2, 2, 1), (5, 2, 2)),
    ):
        assert decisions(task, rng.normal(size=shape), from_logits=True).shape == named
    assert decisions("regression", rng.normal(size=(5, 1)), from_logits=True) is None


@settings(deadline=None, max_examples=20)
@given(arrays(np.int8, (40, 1)), arrays(np.int64, 40, elements=st.integers(0, 1)))
def test_area_is_that_of_scikit_learn_where_thresholds_tell_codes_apart(codes, labels):
    scores = codes.astype(np.float32) / 64  # Probabilities of 0.12 to 0.88, 199 thresholds apart.
    found = judged("binary", scores, labels, batches=3)
    if len(set(labels)) < 2:
        assert found["auc"] is None
    else:
        assert found["auc"] == pytest.approx(roc_auc_score(labels, scores[:, 0]), abs=0.03)


@settings(deadline=None, max_examples=20)
@given(arrays(np.float32, (12, 2), elements=st.floats(-9, 9, width=32)), st.integers(1, 5))
def test_batches_do_not_matter(outputs, batches):
    labels = np.arange(24).reshape(12, 2) % 3 % 2
    for task, given_labels in (("multi_label", labels), ("regression", labels.astype(float))):
        found, whole = (judged(task, outputs, given_labels, batches=n) for n in (batches, 1))
        assert found == pytest.approx(whole)
