"""Label smoothing and distillation, with values worked out by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mmx_tf.fitting.losses import (
    ProbabilityCrossentropy,
    SmoothedCrossentropy,
    as_logits,
    classification_loss,
    distillation_loss,
)

LN3 = math.log(3.0)


@pytest.mark.parametrize("labels", [[1], [[1]]])
@pytest.mark.parametrize("from_logits", [True, False])
def test_label_smoothing_by_hand(labels, from_logits):
    """Of two classes, 0.2 leaves the label 0.9 and gives the other 0.1; p = (1/4, 3/4)."""
    outputs = [[0.0, LN3]] if from_logits else [[0.25, 0.75]]
    loss = SmoothedCrossentropy(0.2, from_logits=from_logits)(tf.constant(labels), tf.constant(outputs))
    expected = 0.1 * math.log(4) + 0.9 * math.log(4 / 3)
    assert expected == pytest.approx(0.397543, abs=1e-6)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_pulls_logits_together():
    """The gradient is p - target: (1/4 - 0.1, 3/4 - 0.9), over a batch of one."""
    logits = tf.Variable([[0.0, LN3]])
    with tf.GradientTape() as tape:
        loss = SmoothedCrossentropy(0.2, from_logits=True)(tf.constant([1]), logits)
    np.testing.assert_allclose(tape.gradient(loss, logits), [[0.15, -0.15]], atol=1e-6)


def test_without_smoothing_the_loss_is_kerass_own():
    assert type(classification_loss(from_logits=True)) is keras.losses.SparseCategoricalCrossentropy
    assert type(classification_loss(from_logits=True, label_smoothing=0.1)) is SmoothedCrossentropy


def test_a_smoothed_loss_comes_back_from_its_config():
    loss = SmoothedCrossentropy(0.3, from_logits=False)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert (type(again), again.label_smoothing, again.from_logits) == (SmoothedCrossentropy, 0.3, False)


def test_probabilities_of_sigmoids_by_hand():
    """-(ln 3/4 + ln 1/4) / 2 for a yes and a no at 3/4; 0 counts as half a code, 1/512."""
    loss = ProbabilityCrossentropy()
    found = loss(tf.constant([[1.0, 0.0]]), tf.constant([[0.75, 0.75]]))
    assert float(found) == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2, rel=1e-5)
    # Smoothed by 0.2 a yes is 0.9: -(0.9 ln 3/4 + 0.1 ln 1/4).
    found = ProbabilityCrossentropy(0.2)(tf.constant([[1.0]]), tf.constant([[0.75]]))
    assert float(found) == pytest.approx(-(0.9 * math.log(0.75) + 0.1 * math.log(0.25)), rel=1e-5)
    outputs = tf.Variable([[0.0]])
    with tf.GradientTape() as tape:
        found = loss(tf.constant([[1.0]]), outputs)
    assert float(found) == pytest.approx(math.log(512), rel=1e-4)
    # Keras's own has none here, so that such an image could not be learnt.
    assert float(tape.gradient(found, outputs)[0, 0]) == pytest.approx(-512, rel=1e-3)
    again = keras.losses.deserialize(keras.losses.serialize(ProbabilityCrossentropy(0.2)))
    assert (type(again), again.label_smoothing) == (ProbabilityCrossentropy, 0.2)


def test_distillation_of_decisions_is_that_of_two_classes():
    """Teacher 1/4, student 1/2: the divergence below; a second output that agrees halves the mean."""
    teacher, student = tf.constant([[-LN3, 0.7]]), tf.constant([[0.0, 0.7]])
    expected = (0.25 * math.log(0.5) + 0.75 * math.log(1.5)) / 2
    for from_logits in (True, False):
        pair = (teacher, student) if from_logits else (tf.sigmoid(teacher), tf.sigmoid(student))
        logits = [as_logits(outputs, from_logits=from_logits, yes_or_no=True) for outputs in pair]
        assert logits[0].shape == (2, 2)
        assert float(distillation_loss(*logits, 1.0)) == pytest.approx(expected, rel=1e-4)


def test_distillation_by_hand():
    """Teacher (1/4, 3/4), student (1/2, 1/2): 1/4 ln(1/2) + 3/4 ln(3/2)."""
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert expected == pytest.approx(0.130812, abs=1e-6)
    loss = distillation_loss(tf.constant([[5.0, 5.0 + LN3]]), tf.constant([[7.0, 7.0]]), 1.0)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_temperature_divides_logits_and_scales_the_loss_back():
    """At T = 2 logits of 2 ln 3 are the teacher above; times 4. The gradient is T (q - p) = 2 (q - p)."""
    teacher, logits = tf.constant([[0.0, 2 * LN3]]), tf.Variable([[0.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = distillation_loss(teacher, logits, 2.0)
    assert float(loss) == pytest.approx(4 * 0.1308120, rel=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, logits), [[0.5, -0.5]], atol=1e-6)


def test_distillation_is_the_mean_over_the_batch_and_0_for_equal_outputs():
    teacher = tf.constant([[0.0, LN3], [1.0, 1.0]])
    assert float(distillation_loss(teacher, teacher + 3.0, 1.5)) == pytest.approx(0.0, abs=1e-6)
    student = tf.constant([[0.0, 0.0], [1.0, 1.0]])
    assert float(distillation_loss(teacher, student, 1.0)) == pytest.approx(0.130812 / 2, rel=1e-5)


def test_logits_of_probabilities():
    probabilities = tf.constant([[0.25, 0.75, 0.0]])
    np.testing.assert_allclose(
        tf.nn.softmax(as_logits(probabilities, from_logits=False)), [[0.25, 0.75, 0.0]], atol=1e-6
    )
    np.testing.assert_array_equal(as_logits(probabilities, from_logits=True), probabilities)
