"""Moving averages after known steps, put in place and taken out again."""

import numpy as np
import pytest
import tf_keras as keras

from mmx_tf.layers.lsq.lsq import STEP_SIZE_FLOOR
from mmx_tf.layers.quantizers.activation import StepSizeFloor
from mmx_tf.training.averaging import WeightAverages
from mmx_tf.training.optimizers import weight_optimizer

PLAIN = {"momentum": 0.0, "nesterov": False}


def falling(*layers, start="zeros", constraint=None):
    """y = w x, loss y: with x = 1 and learning rate 1 a step takes 1 from w."""
    last = keras.layers.Dense(1, use_bias=False, kernel_initializer=start, kernel_constraint=constraint)
    model = keras.Sequential([keras.Input((1,)), *layers, last])
    optimizer = weight_optimizer("sgd", model.trainable_variables, 1.0, ema_decay=0.5, **PLAIN)
    model.compile(optimizer, loss=lambda labels, outputs: outputs)
    optimizer.build(model.trainable_variables)
    return model


def trained(model, steps, x=1.0) -> WeightAverages:
    averages = WeightAverages(model)
    for step in range(steps):
        model.train_on_batch(np.full((1, 1), x), np.ones(1))
        averages.on_train_batch_end(step)
    return averages


@pytest.mark.parametrize(("steps", "average"), [(1, -0.5), (2, -1.25), (3, -2.125)])
def test_an_average_after_known_steps(steps, average):
    """Weights 0, -1, -2, -3: 0.5 * 0 - 0.5, then 0.5 * -0.5 - 1, then 0.5 * -1.25 - 1.5."""
    model = falling()
    averages = trained(model, steps)
    (weight,) = model.trainable_variables
    assert weight.numpy().item() == -steps
    with pytest.raises(ZeroDivisionError), averages.in_place():
        assert weight.numpy().item() == average
        raise ZeroDivisionError
    assert weight.numpy().item() == -steps
    averages.put_in_place()
    assert weight.numpy().item() == average


def test_running_statistics_are_averaged_with_the_same_decay():
    """Images of 4: the running mean goes 0, 2, 3, its average 0, 1, 2; the variance 1, 1/2, 1/4 likewise."""
    norm = keras.layers.BatchNormalization(momentum=0.5, center=False, scale=False)
    model = falling(norm)
    averages = trained(model, 2, x=4.0)
    assert (norm.moving_mean.numpy().item(), norm.moving_variance.numpy().item()) == (3.0, 0.25)
    with averages.in_place():
        # 0.5 * (0.5 * 1 + 0.5 * 0.5) + 0.5 * 0.25
        assert (norm.moving_mean.numpy().item(), norm.moving_variance.numpy().item()) == (2.0, 0.5)
    assert (norm.moving_mean.numpy().item(), norm.moving_variance.numpy().item()) == (3.0, 0.25)


def test_an_average_keeps_the_constraint():
    """1 -> 0 (raised to the floor) -> -1: the optimizer's average is 0.25 - 0.5, no step size."""
    model = falling(start="ones", constraint=StepSizeFloor())
    averages = trained(model, 2)
    with averages.in_place():
        assert model.trainable_variables[0].numpy().item() == pytest.approx(STEP_SIZE_FLOOR)


def test_an_optimizer_without_averages_is_refused():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd")
    with pytest.raises(ValueError, match="use_ema=True"):
        WeightAverages(model)
