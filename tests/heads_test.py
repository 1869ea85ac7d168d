"""What a head stands for is told from activation, loss, shape and labels, and never guessed in silence."""

import re

import numpy as np
import pytest
import tf_keras as keras

from mmx_tf.choices import TASKS
from mmx_tf.export.comparing.heads import Head, candidates, labels_of, loss_name, told

losses = keras.losses
CLASSES, YES, ONE_HOT = np.array([0, 2, 1]), np.array([0, 1, 1]), np.eye(3)[[0, 2, 1]]
MANY_HOT, NUMBERS = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]]), np.array([[0.5], [31.0], [-2.0]])
MAPS = np.arange(12).reshape(3, 2, 2) % 3


def head(*shape, activation=None, loss=None):
    return Head("net", shape, activation, loss_name(loss))


@pytest.mark.parametrize(
    ("network", "labels", "task"),
    [
        (head(3), CLASSES, "classification"),
        (head(3), CLASSES[:, None], "classification"),
        (head(3), ONE_HOT, "classification"),
        (head(3, activation="softmax"), [[0.7, 0.2, 0.1]] * 3, "classification"),
        (head(3, loss="categorical_crossentropy"), [[0.7, 0.2, 0.1]] * 3, "classification"),
        (head(3, activation="softmax", loss="mse"), ONE_HOT, "classification"),
        (head(1, activation="sigmoid"), YES, "binary"),
        (head(1, activation="sigmoid"), YES[:, None].astype(bool), "binary"),
        (head(1, activation="sigmoid"), np.eye(2)[YES], "binary"),
        (head(1, activation="sigmoid", loss="mse"), YES, "binary"),
        (head(1, activation="hard_sigmoid"), YES.astype(float), "binary"),
        (head(1, loss=losses.BinaryCrossentropy(from_logits=True)), YES, "binary"),
        (head(1), YES, "binary"),
        (head(1, loss="mse"), YES, "regression"),
        (head(1), NUMBERS, "regression"),
        (head(1), np.array([3, 40, 7]), "regression"),
        (head(1, activation="sigmoid"), [0.2, 0.7, 1.0], "regression"),
        (head(3, activation="sigmoid"), MANY_HOT, "multi_label"),
        (head(3, activation="sigmoid"), ONE_HOT, "multi_label"),
        (head(3, activation="sigmoid"), CLASSES, "classification"),
        (head(3), MANY_HOT, "multi_label"),
        (head(3, loss="binary_crossentropy"), ONE_HOT, "multi_label"),
        (head(3), np.array([[0.5, 3, 1]] * 3), "regression"),
        (head(3, loss=losses.Huber()), ONE_HOT, "regression"),
        (head(2, 2, 3), MAPS, "segmentation"),
        (head(2, 2, 3), MAPS[..., None].astype(np.float32), "segmentation"),
        (head(2, 2, 3, activation="softmax"), np.eye(3)[MAPS], "segmentation"),
        (head(2, 2, 1, activation="sigmoid"), MAPS % 2, "segmentation"),
        (head(2, 2, 3, activation="sigmoid"), np.ones((3, 2, 2, 3)), "multi_label"),
        (head(2, 2, 3), np.full((3, 2, 2, 3), 0.3), "regression"),
    ],
)
def test_the_task_is_told(network, labels, task):
    assert told(network, np.array(labels)) == task


@pytest.mark.parametrize(
    ("network", "labels", "parts"),
    [
        # Soft labels of classes, or numbers?
        (
            head(3),
            [[0.7, 0.2, 0.1]] * 3,
            ["without softmax", "(3, 3)", "'classification' or task='regression'"],
        ),
        (head(1), None, ["(None, 1)", "Give task='binary' or task='regression'"]),
        (head(2, 2, 3), None, ["Give task='segmentation' or task='multi_label' or task='regression'"]),
        (
            head(3, activation="softmax"),
            NUMBERS,
            ["float64 labels of shape (3, 1)", "0.5 is not one of 0 to 2"],
        ),
        (
            head(3),
            np.zeros((3, 4)),
            [
                "shape (3, 4)",
                "'classification': shape (N,)",
                "Nor do they fit task 'multi_label' or 'regression'.",
            ],
        ),
        (head(10), np.array([-1, -1, -1]), ["-1 is not one of 0 to 9"]),
    ],
)
def test_what_cannot_be_told_names_the_candidates(network, labels, parts):
    with pytest.raises(ValueError, match="net") as error:
        told(network, labels if labels is None else np.array(labels))
    assert all(part in str(error.value) for part in parts), error.value
    assert "\n" not in str(error.value)


def test_a_given_task_overrides_and_must_be_one():
    assert told(head(3), CLASSES, "regression") == "regression"
    with pytest.raises(ValueError, match="task is 'detection'; use one of 'classification', 'binary'"):
        told(head(3), CLASSES, "detection")


def test_a_task_that_cannot_be_told_is_asked_for_by_the_outputs_name():
    asked = {
        False: "Give task='segmentation' or task='multi_label' or task='regression'",
        True: "Give task={'box': 'segmentation'} or task={'box': 'multi_label'} or task={'box': 'regre",
    }
    for several, message in asked.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            told(Head("box", (2, 2), several=several), None)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        ("mse", "mean_squared_error"), ("BinaryCrossentropy", "BinaryCrossentropy"),
        (losses.Huber(), "Huber"), ([losses.binary_crossentropy], "binary_crossentropy"),
        ({"logits": "mae"}, "mean_absolute_error"), (lambda y, p: 0.0, "<lambda>"), ("own", "own"),
        ({}, None), (None, None), (["mse", "mse"], None),
    ],
)  # fmt: skip
def test_losses_are_known_by_name_or_object(loss, name):
    assert loss_name(loss) == name


def test_an_unknown_loss_tells_nothing():
    assert candidates(head(1, loss=lambda y, p: 0.0)) == candidates(head(1)) == ("binary", "regression")
    assert candidates(head(1, loss="mae")) == ("regression",)
    assert candidates(head(4, 4, 1, loss="binary_crossentropy")) == ("segmentation",)


@pytest.mark.parametrize(
    ("task", "network", "labels", "expected"),
    [
        ("classification", head(3), ONE_HOT, CLASSES),
        ("classification", head(3), CLASSES[:, None].astype(float), CLASSES),
        ("binary", head(1), np.eye(2)[YES], YES),
        ("binary", head(1), YES[:, None], YES),
        ("multi_label", head(3), MANY_HOT.astype(bool), MANY_HOT),
        ("regression", head(1), np.array([1, 2, 3]), np.array([[1.0], [2.0], [3.0]])),
        ("segmentation", head(2, 2, 3), np.eye(3)[MAPS], MAPS),
        ("segmentation", head(2, 2, 1), (MAPS % 2)[..., None], MAPS % 2),
    ],
)
def test_labels_have_one_form(task, network, labels, expected):
    found = labels_of(task, network, labels)
    np.testing.assert_array_equal(found, expected)
    assert found.shape == expected.shape and found.dtype == (np.float64 if task == "regression" else np.int64)


@pytest.mark.parametrize(
    ("task", "network", "labels", "reason"),
    [
        ("classification", head(3), [0, 3, 1], "3 is not one of 0 to 2"),
        ("classification", head(3), [[1, 1, 0]] * 3, "must add up to 1"),
        ("classification", head(1), YES, r"needs outputs of shape \(None, classes\)"),
        ("binary", head(2), YES, r"needs one output, of shape \(None, 1\)"),
        ("binary", head(1), [0, 1, 2], "2 is not one of 0 to 1"),
        ("multi_label", head(3), CLASSES, r"shape \(N, 3\) is needed"),
        ("regression", head(2), NUMBERS, r"shape \(N, 2\) is needed"),
        ("segmentation", head(3), CLASSES, r"\(None, height, width, classes\)"),
        ("segmentation", head(2, 2, 3), MAPS + 1, "3 is not one of 0 to 2"),
        ("regression", head(1), np.array(["a", "b"]), "numbers are needed"),
    ],
)
def test_labels_that_do_not_fit_are_named(task, network, labels, reason):
    with pytest.raises(ValueError, match=reason):
        labels_of(task, network, np.array(labels))


def test_every_task_is_described():
    from mmx_tf.export.comparing import heads, quality

    for task in TASKS:
        assert f"| {task} |" in heads.__doc__ and f"| {task} |" in quality.__doc__
        assert quality.MEASURES[task] and "{}" in quality.SAME[task]
