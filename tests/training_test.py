"""What the training phases say of networks that would disappoint."""

import pytest
import tf_keras as keras

from mmx_tf import training


def network(*momenta):
    norms = [keras.layers.BatchNormalization(momentum=momentum) for momentum in momenta]
    return keras.Sequential([keras.Input((4, 4, 2)), *norms])


def test_statistics_that_a_few_steps_do_not_change_are_told_of(caplog):
    # 0.999^200 = 0.8187; 0.999^2994.2 = 0.05.
    training.warn_of_slow_statistics(network(0.9, 0.999), 200)
    assert "momentum of 0.999 is slow for 200 steps of weight training: 82% of its" in caplog.text
    assert "Train for 2,995 steps or more, or give a network" in caplog.text


@pytest.mark.parametrize(("momenta", "steps"), [((0.999,), 2995), ((0.9,), 29), ((0.0,), 1), ((), 1)])
def test_enough_steps_are_passed_over(momenta, steps, caplog):
    training.warn_of_slow_statistics(network(*momenta), steps)
    assert caplog.text == ""


def test_statistics_that_never_change_are_told_of(caplog):
    training.warn_of_slow_statistics(network(1.0), 5000)
    assert "100% of its" in caplog.text and "Give a network" in caplog.text
