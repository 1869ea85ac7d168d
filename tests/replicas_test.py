"""What replicas compute on parts of a batch is what one device computes on all of it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from replicas_run import CASES, inputs, step

from mmx_tf.layers import replicas
from mmx_tf.layers.lsq import lsq


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """What two replicas of a MirroredStrategy on two logical CPU devices give, in a process of their own."""
    path = tmp_path_factory.mktemp("replicas") / "found.npz"
    program = [sys.executable, Path(__file__).with_name("replicas_run.py"), path]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return np.load(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_statistics_outputs_and_gradients_are_those_of_the_whole_batch(parts, name):
    shape, make = CASES[name]
    case = make()
    x, weights = (tf.constant(inputs(shape, seed)) for seed in (0, 1))
    outputs, gradients = tf.function(step, autograph=False)(case, x, weights)
    expected = {"outputs": outputs, "x": gradients[0]}
    expected |= {f"variable {index}": value for index, value in enumerate(gradients[1:])}
    expected |= {f"statistics {index}": value for index, value in enumerate(case[2])}
    for what, value in expected.items():
        # A gradient for x is a small difference of large numbers.
        size = np.abs(value.numpy()).max()
        np.testing.assert_allclose(parts[f"{name}/{what}"], value.numpy(), atol=2e-5 * size, err_msg=what)
    # The halves have other means than the whole: their own statistics would not have passed.
    halves = [half.mean(axis=tuple(range(half.ndim - 1))) for half in np.split(x.numpy(), 2)]
    assert np.all(np.abs(halves[0] - halves[1]) > 1)


@pytest.mark.slow
def test_the_limit_on_shrinking_is_for_the_sum_of_all_replicas(parts):
    """0.3 + 0.4 is more than the step size of 0.5, though neither is: 0.5, not 0.7, reaches the optimizer."""
    np.testing.assert_allclose(parts["limit"], [0.5, 0.5], rtol=1e-6)


@pytest.mark.slow
def test_passes_in_turn_exchange_sums(parts):
    """Three times the sum of 1 and 2."""
    np.testing.assert_array_equal(parts["total"], [9.0, 9.0])
    np.testing.assert_array_equal(parts["count"], [2, 2])


@pytest.mark.slow
def test_decay_is_added_once_for_all_replicas(parts):
    """As on one device (tests/weight_decay_test.py); added to each gradient it would count twice."""
    for kind, kernels in {"decoupled": [1.8, 1.52], "l2": [1.8, 1.43]}.items():
        for index, (kernel, bias) in enumerate(zip(kernels, [1.9, 1.71], strict=True)):
            np.testing.assert_allclose(parts[f"{kind} {index}"], [[kernel] * 2, [bias] * 2], rtol=1e-6)


def test_one_process_is_one_replica():
    assert replicas.count() == 1
    value = tf.constant(3.0)
    assert replicas.summed(value) is value
    values = {"loss": value}
    assert replicas.of_first(values) is values
    (total,) = replicas.in_turn(3, lambda i, total: (i + 1, total + 2.0), (tf.constant(1.0),))
    assert float(total) == 7.0


def test_a_step_size_may_lose_itself_at_most():
    step_size = tf.Variable(0.5)
    with tf.GradientTape() as tape:
        loss = 0.7 * lsq.limit_shrinking(step_size)
    assert float(tape.gradient(loss, step_size)) == 0.5
