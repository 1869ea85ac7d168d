"""MultiBranchQuantizer: single branches, the softmax(alpha)-weighted mix, and which gradients go where."""

import lsq_reference as reference
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from layer_contract import LayerContract, one_layer_model

from mmx_tf.layers.branches import JOINT, MIXED
from mmx_tf.layers.lsq import lsq
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer

BITS = (8, 4, 3)
# As in lsq_test: 8 bits give (0, .25, 2.5, 63.75, 10), 4 bits (0, .5, 2.5, 7.5, 7.5), 3 bits (0, 0, 3, 7, 7).
X = np.float32([[-1.0, 0.3, 2.6, 100.0, 10.0]])
BRANCH_OUTPUTS = [[0, 0.25, 2.5, 63.75, 10], [0, 0.5, 2.5, 7.5, 7.5], [0, 0, 3, 7, 7]]
ALPHA = np.log(np.float32([1.0, 2.0, 5.0]))  # softmax 1/8, 2/8, 5/8


def set_quantizer():
    """Unsigned, 8/4/3 bits, steps .25, .5, 1, five inputs."""
    quantizer = MultiBranchQuantizer(bit_widths=BITS, signed=False)
    quantizer.build((None, 5))
    quantizer.step_sizes.assign([0.25, 0.5, 1.0])
    quantizer.initialized.assign([True] * 3)
    return quantizer


def gradients(quantizer, branch, x=X, sign=1.0, alpha=ALPHA):
    """(dx, d steps, d alpha) of sign * sum(quantizer(x))."""
    x, alpha = tf.convert_to_tensor(x), tf.convert_to_tensor(alpha)
    with tf.GradientTape() as tape:
        tape.watch([x, alpha])
        total = sign * tf.reduce_sum(quantizer(x, branch=branch, alpha=alpha))
    return tape.gradient(total, [x, quantizer.step_sizes, alpha])


@pytest.fixture(params=[(BITS, True, None), ((2, 5), False, None), (BITS, True, -0.375)], ids=str)
def model(request):
    bit_widths, signed, floor = request.param
    quantizer = MultiBranchQuantizer(bit_widths=bit_widths, signed=signed, floor=floor)
    return one_layer_model(quantizer, (4, 4, 3))


class TestContract(LayerContract):
    untrained = ("alpha",)  # plain training uses one branch; alpha is for the bit-search step


@pytest.mark.parametrize("branch", range(3))
def test_a_single_branch_by_hand(branch):
    quantizer = set_quantizer()
    assert quantizer(X, branch=branch).numpy().tolist() == [BRANCH_OUTPUTS[branch]]
    dx, ds, dalpha = gradients(quantizer, branch)
    assert dx.numpy().tolist() == [[0, 1, 1, 0, 1 if branch == 0 else 0]]
    assert dalpha is None
    low, high = quantizer.ranges[branch]
    step_size, scale = [0.25, 0.5, 1.0][branch], 1 / np.sqrt(5 * high)
    want = reference.gradients(X, step_size, 1.0, low=low, high=high, gradient_scale=scale)[1]
    # Here the step size would shrink by more than itself, so the limit holds; growing has no limit. The other
    # branches get no gradient.
    assert want > step_size
    np.testing.assert_allclose(ds, np.eye(3)[branch] * step_size, rtol=1e-5)
    growing = gradients(quantizer, branch, sign=-1.0)[1]
    np.testing.assert_allclose(growing, np.eye(3)[branch] * -want, rtol=1e-5)


@pytest.mark.parametrize("signed", [False, True])
def test_a_branch_equals_the_fixed_quantizer_that_replaces_it(signed):
    x = np.random.default_rng(0).normal(0, 2, (2, 4, 4, 3)).astype(np.float32)
    quantizer = MultiBranchQuantizer(bit_widths=BITS, signed=signed)
    for branch, bits in enumerate(BITS):
        fixed = ActivationQuantizer(bits=bits, signed=signed)
        np.testing.assert_array_equal(quantizer(x, branch=branch), fixed(x))  # both initialised from x
        assert float(fixed.step_size) == float(quantizer.step_sizes[branch])
        assert quantizer.ranges[branch] == (fixed.low, fixed.high)


def test_the_mix_by_hand():
    quantizer = set_quantizer()
    np.testing.assert_allclose(
        quantizer(X, branch=MIXED, alpha=ALPHA), [[0, 0.15625, 2.8125, 14.21875, 7.5]], rtol=1e-6
    )
    dx, ds, dalpha = gradients(quantizer, MIXED)
    np.testing.assert_allclose(dx, [[0, 1, 1, 0, 0.125]], rtol=1e-6)
    assert ds is None  # the bit-search step holds the step sizes fixed
    # Branch sums 76.5, 18, 17 have the mean 24.6875; d alpha_j = p_j (sum_j - mean).
    np.testing.assert_allclose(dalpha, [51.8125 / 8, -6.6875 / 4, -7.6875 * 5 / 8], rtol=1e-5)


def test_at_equal_alphas_the_mix_is_the_mean():
    mix = set_quantizer()(X, branch=MIXED, alpha=tf.zeros(3))
    np.testing.assert_allclose(mix[0], np.mean(BRANCH_OUTPUTS, axis=0), rtol=1e-6)


@pytest.mark.parametrize("branch", [None, MIXED, JOINT])
def test_what_needs_an_alpha_says_so(branch):
    with pytest.raises(ValueError, match=f"branch={branch!r} needs alpha"):
        set_quantizer()(X, branch=branch)


@pytest.mark.parametrize("best", range(3))
def test_without_a_branch_the_largest_alpha_decides(best):
    quantizer = set_quantizer()
    alpha = tf.Variable(np.float32(np.eye(3)[best]))
    traced = tf.function(lambda x: quantizer(x, branch=None, alpha=alpha))
    plain = quantizer(X, branch=None, alpha=alpha)
    assert plain.numpy().tolist() == traced(X).numpy().tolist() == [BRANCH_OUTPUTS[best]]
    alpha.assign(-np.eye(3)[best])  # now the first of the others, in the same traced function
    assert traced(X).numpy().tolist() == [BRANCH_OUTPUTS[1 if best == 0 else 0]]


@pytest.mark.parametrize("best", range(3))
def test_without_a_branch_gradients_are_those_of_the_branch(best):
    quantizer, alpha = set_quantizer(), np.float32(np.eye(3)[best])
    traced = tf.function(gradients)  # what fit does
    for got in (gradients(quantizer, None, alpha=alpha), traced(quantizer, None, alpha=alpha)):
        want = gradients(quantizer, best)
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_allclose(got[1], want[1], rtol=1e-6)
        assert got[2] is None


@pytest.mark.parametrize("branch", [0, 2, MIXED, None])
@pytest.mark.parametrize("traced", [False, True])
def test_the_first_batch_sets_every_branch_before_use(branch, traced):
    quantizer = MultiBranchQuantizer(bit_widths=BITS, signed=False)
    quantizer.build((None, 2, 3))
    x = np.float32([[[1, -2, 3], [-4, 5, 3]]])  # mean|x| = 3

    def plain(x):
        return quantizer(x, branch=branch, alpha=tf.zeros(3))

    call = tf.function(plain) if traced else plain
    got = call(x)
    steps = 6 / np.sqrt([255, 15, 7])
    np.testing.assert_allclose(quantizer.step_sizes, steps, rtol=1e-6)
    assert quantizer.initialized.numpy().tolist() == [True] * 3
    branches = [reference.quantize(x, s, 0, high) for s, high in zip(steps, (255, 15, 7), strict=True)]
    want = np.mean(branches, axis=0) if branch == MIXED else branches[branch or 0]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    call(9 * x)
    np.testing.assert_allclose(quantizer.step_sizes, steps, rtol=1e-6)


def test_a_large_input_runs_fused_and_equals_the_pure_functions():
    x = np.random.default_rng(1).normal(0, 2, (2, 32, 32, 4)).astype(np.float32)
    quantizer = MultiBranchQuantizer(bit_widths=BITS, signed=True)
    mixed = quantizer(x, branch=MIXED, alpha=tf.zeros(3))
    arguments = (x, quantizer.step_sizes, tf.zeros(3))
    want = lsq.mix_branches(*arguments, ranges=quantizer.ranges)
    np.testing.assert_allclose(mixed, want, rtol=1e-5, atol=1e-6)
    dx, ds, dalpha = gradients(quantizer, MIXED, x, alpha=np.zeros(3, np.float32))
    assert ds is None
    sums = np.array([np.sum(quantizer(x, branch=i), dtype=np.float64) for i in range(3)])
    np.testing.assert_allclose(dalpha, (sums - sums.mean()) / 3, rtol=1e-3, atol=1e-2)
    assert set(np.unique(np.rint(dx.numpy() * 3))) <= {0, 1, 2, 3}


@pytest.mark.parametrize(
    "optimizer", [keras.optimizers.SGD(1e6), keras.optimizers.Adam(1e3)], ids=["sgd", "adam"]
)
def test_a_huge_update_leaves_positive_step_sizes(optimizer):
    quantizer = set_quantizer()
    ds = gradients(quantizer, 2, np.full((2, 5), 100, np.float32))[1]
    assert ds[2] > 0  # clipped: a smaller step lowers the sum
    optimizer.apply_gradients([(ds, quantizer.step_sizes)])
    np.testing.assert_allclose(quantizer.step_sizes, [0.25, 0.5, lsq.STEP_SIZE_FLOOR])
    assert np.all(np.isfinite(quantizer(X, branch=MIXED, alpha=ALPHA)))


@pytest.mark.parametrize("branch", [3, -1, "mix", 1.5])
def test_refuses_a_branch_that_is_not_there(branch):
    allowed = "an index in 0..2, 'mixed', 'joint', or None"
    with pytest.raises(ValueError, match=f"branch={branch!r}: give {allowed}"):
        set_quantizer()(X, branch=branch)


@pytest.mark.parametrize("bits", [1, 9, 4.5])
def test_refuses_candidates_outside_2_to_8(bits):
    with pytest.raises(ValueError, match=f"bits={bits}: an activation bit-width is an integer in 2..8"):
        MultiBranchQuantizer(bit_widths=(8, bits), signed=False)


def test_refuses_an_unknown_image_size():
    with pytest.raises(ValueError, match="build the model with a fixed image size"):
        MultiBranchQuantizer(bit_widths=BITS, signed=True)(keras.Input((None, None, 3)))
