"""Several targets on one meta-state: each is searched as if it were alone."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import small_network

import mmx_tf
from mmx_tf.errors import DivergenceError
from mmx_tf.fitting.divergence import Watch
from mmx_tf.metamix import target as target_search
from mmx_tf.metamix.trained_search import TrainedSearch
from tests import alphas

pytestmark = pytest.mark.heavy

BITS = (8, 4, 3)
# MACs of the network: ends 3456 + 80 at 8x8 bits; searched 3456 + 2304 + 3072 at 4 bits times 3 to 8.
ENDS, SEARCHED = 3536 * 64, 8832
LOW, HIGH = ENDS + SEARCHED * 4 * 3.5, ENDS + SEARCHED * 4 * 6
PREFIXES = ("target_349.952K/", "target_438.272K/")


@pytest.fixture(scope="module")
def batches(digits):
    return list(digits.train(batch_size=32, seed=0).take(3))


def searched(target, **options):
    keras.utils.set_random_seed(3)
    search = mmx_tf.augment(small_network(), bit_widths=BITS, target_bops=target, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    search.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9),
        alpha_optimizer=keras.optimizers.Adam(0.1),
        loss=loss,
        metrics=["accuracy"],
    )
    return search


def trained(target, batches):
    search = searched(target)
    search(batches[0][0], branch=0)
    search.searching.assign(True)
    step = tf.function(search.train_step)
    for batch in batches:
        logs = step(batch)
    return search, {name: float(value) for name, value in logs.items()}


@pytest.fixture(scope="module")
def joint(batches):
    return trained([LOW, HIGH], batches)


@pytest.fixture(scope="module")
def alone(batches):
    return [trained(target, batches) for target in (LOW, HIGH)]


def values(variables):
    return [variable.numpy() for variable in variables]


@pytest.mark.slow
def test_each_target_finds_the_alphas_of_a_search_of_its_own(joint, alone):
    search, _ = joint
    for target, (single, _) in zip(search.targets, alone, strict=True):
        np.testing.assert_allclose(target.alpha, single.alpha[0], rtol=1e-4, atol=1e-6)
        assert target.budget == single.budget
    # The two are told apart, or equality would say nothing.
    assert np.abs(np.subtract(*search.alpha.numpy())).max() > 0.01


@pytest.mark.slow
def test_the_meta_state_is_that_of_one_search(joint, alone):
    """One bit-meta step per minibatch: two would move the weights twice."""
    search, _ = joint
    for single, _ in alone:
        for ours, theirs in (
            (search.meta_weights, single.meta_weights),
            (search.step_sizes, single.step_sizes),
            (search.batch_norm_statistics, single.batch_norm_statistics),
        ):
            for one, other in zip(values(ours), values(theirs), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_the_logs_of_each_target_have_its_name(joint, alone):
    _, logs = joint
    names = ("bops", "regularizer", "alpha_entropy", "alpha_margin", "alpha_flips", "search_loss")
    assert set(logs) == {"loss", "accuracy", *(prefix + name for prefix in PREFIXES for name in names)}
    for prefix, (_, single) in zip(PREFIXES, alone, strict=True):
        assert set(single) == {"loss", "accuracy", *names}
        assert {n: logs[prefix + n] for n in names} == pytest.approx({n: single[n] for n in names}, rel=1e-4)


def test_regularizer_gradients_by_hand():
    """At equal alphas 8 bits are chosen: (1, -1/3, -2/3) * macs * weight bits / target; at 3 bits, minus."""
    search = searched([LOW, HIGH])
    for target, bops in zip(search.targets, (LOW, HIGH), strict=True):
        for chosen, sign in (([0.0, 0.0, 0.0], 1), ([0.0, 0.0, 1e-7], -1)):
            alphas.set_rows(search, chosen)
            with tf.GradientTape() as tape:
                gap = target_search.regularizer(target.budget, target.alpha)
            bits = 8 if sign == 1 else 3
            assert float(gap) == pytest.approx(sign * ((ENDS + SEARCHED * 4 * bits) / bops - 1), rel=1e-6)
            gradients = tape.gradient(gap, search.alpha)[target.index]
            for macs, gradient in zip((3456, 2304, 3072), gradients, strict=True):
                expected = sign * np.array([1, -1 / 3, -2 / 3]) * macs * 4 / bops
                np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_there_is_one_selection_for_each_target(joint):
    search, _ = joint
    low, high = search.bit_selections()
    assert (low.target_bops, high.target_bops) == (LOW, HIGH)
    assert low.bops <= LOW and high.bops <= HIGH
    with pytest.raises(ValueError, match=r"has 2 targets \(349952, 438272 BOPs\): bit_selections\(\)"):
        search.bit_selection()
    assert mmx_tf.rebuild(search, high).output_shape == (None, 10)


@pytest.mark.slow
def test_a_list_of_one_target_is_one_target(alone):
    search = searched([LOW])
    assert search.budget == alone[0][0].budget
    assert search.bit_selections() == [search.bit_selection()]
    assert [target.prefix for target in search.targets] == [""]


def test_bits_of_each_target_are_what_it_computes(joint, batches):
    search, _ = joint
    images = batches[0][0]
    for branch in (1, 2):
        hot = tf.one_hot([branch] * len(search.quantizers), len(BITS))
        np.testing.assert_allclose(search(images, alpha=hot), search(images, branch=branch), atol=1e-6)


def test_it_saves_and_loads_with_the_alphas_of_every_target(joint, tmp_path):
    search, _ = joint
    search.save(tmp_path / "search.keras")
    loaded = mmx_tf.load_model(tmp_path / "search.keras")
    np.testing.assert_array_equal(loaded.alpha.numpy(), search.alpha.numpy())
    assert loaded.bit_selections() == search.bit_selections()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([], r"target_bops=\[\]: a number, or a list of different numbers"),
        ([400_000, 400_000.2], "a list of different numbers"),
        ([400_000, "5G"], "target_bops='5G': a number above 0"),
        ([400_000, None], "target_bops=None: a number above 0"),
        ([400_000, 1000], "target_bops=1000 .* is out of reach"),
    ],
)
def test_lists_that_make_no_search_are_refused(target, message):
    with pytest.raises(ValueError, match=message):
        mmx_tf.augment(small_network(), bit_widths=BITS, target_bops=target)


@pytest.mark.parametrize("averages", [[3.5, 4], (4,), np.array([3.5, 4])])
def test_a_list_of_averages_is_refused_with_the_way_to_several_budgets(averages):
    with pytest.raises(ValueError) as refused:
        mmx_tf.augment(small_network(), bit_widths=BITS, target_average_bits=averages)
    said = str(refused.value)
    assert said.startswith(f"target_average_bits={averages!r}: one number above 0, for example 4. Several")
    (way,) = re.findall(r"mmx_tf\.augment\(model, (\w+)=4\)\.budget\.target_bops", said)
    each = [mmx_tf.augment(small_network(), bit_widths=BITS, **{way: bits}) for bits in (3.5, 4)]
    bops = [search.budget.target_bops for search in each]
    joint = mmx_tf.augment(small_network(), bit_widths=BITS, target_bops=bops)
    assert [target.budget.target_bops for target in joint.targets] == bops
    with pytest.raises(ValueError) as refused:
        mmx_tf.augment(small_network(), bit_widths=BITS, target_ram=[48e3, 64e3])
    assert "target_ram=[48000.0, 64000.0]: one number" in str(refused.value)
    assert "an average is" not in str(refused.value)


def test_the_watch_sees_the_alphas_of_every_target(batches):
    search = searched([LOW, HIGH])
    data = tf.data.Dataset.from_tensors(batches[0])
    search(batches[0][0], branch=0)
    options = {"batches": lambda *_: data, "steps_per_epoch": 3, "early": (0, 3)}
    watch = Watch("select", TrainedSearch(search), **options)
    watch.before_step()
    alphas.set_row(search, 0, [0.0, 6.0, 0.0], target=1)
    name = "target_438.272K/depthwise_input_quantizer has 4 bits with probability 0.9951"
    with pytest.raises(DivergenceError, match=name):
        watch.after_step({"loss": 1.0}, epoch=0, step=0)
    alphas.set_row(search, 0, [0.0, np.nan, 0.0], target=1)
    name = "the update of layer 'target_438.272K/depthwise_input_quantizer' overflowed"
    with pytest.raises(DivergenceError, match=f"a weight is NaN or infinite; {name}"):
        watch.after_step({"loss": 1.0}, epoch=0, step=0)
    with pytest.raises(DivergenceError, match="the target_438.272K/search_loss is nan; no layer is at fault"):
        watch.after_step({"target_438.272K/search_loss": np.nan}, epoch=0, step=0)
