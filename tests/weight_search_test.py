"""A search of weight bits beside activation bits: costs, what moves in which step, selection, files."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from ablations_test import moved, values
from networks import small_network

import mmx_tf
from mmx_tf.budget import bops
from mmx_tf.budget.budget import Budget
from mmx_tf.choices import STORAGES
from mmx_tf.errors import DivergenceError
from mmx_tf.export import inspect
from mmx_tf.fitting.divergence import Watch
from mmx_tf.layers.branches import JOINT
from mmx_tf.layers.quantizers.multi_branch_weights import kernel_of
from mmx_tf.metamix import algorithm, passes
from mmx_tf.metamix.selection import BitSelection, SelectionMismatchError
from mmx_tf.metamix.trained_search import TrainedSearch
from tests import alphas

pytestmark = pytest.mark.broad

BITS, WEIGHTS = (8, 4, 3), (8, 4, 2)
# MACs of the network: ends 3456 + 80 at 8x8 bits; searched 3456, 2304 and 3072 at 2x3 to 8x8 bits.
ENDS, MACS = 3536 * 64, (3456, 2304, 3072)
TARGET = ENDS + 8832 * 18


@pytest.fixture(scope="module")
def batch(digits):
    return next(iter(digits.train(batch_size=32, seed=0)))


def searched(*, batch_norm=True, optimizer=None, step_optimizer=None, **options):
    keras.utils.set_random_seed(3)
    arguments = {"bit_widths": BITS, "weight_bits": WEIGHTS, "target_bops": TARGET}
    search = mmx_tf.augment(small_network(batch_norm=batch_norm), **{**arguments, **options})
    search.compile(
        optimizer=optimizer or keras.optimizers.SGD(0.05, momentum=0.9),
        step_optimizer=step_optimizer,
        alpha_optimizer=keras.optimizers.Adam(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return search


@pytest.fixture
def search():
    return searched()


def choose(search, pairs):
    """Sets the alphas so that the layers' (weight bits, activation bits) are these."""
    own = [tf.one_hot(BITS.index(activations), len(BITS)) for _, activations in pairs]
    of_weights = [tf.one_hot(WEIGHTS.index(weights), len(WEIGHTS)) for weights, _ in pairs]
    alphas.set_rows(search, 10.0 * np.array([*own, *of_weights] * len(search.targets)))


# Costs.


def test_one_weight_candidate_is_equation_4():
    table, alphas = [[8.0, 4.0, 3.0], [16.0, 8.0, 6.0]], tf.constant([[0.1, 0.3, 0.2], [-1.0, -3.0, 0.0]])
    of_weights = tf.constant([[0.7], [-0.3]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([alphas, of_weights])
        plain = bops.selected_costs(alphas, table=[table], fixed=[5.0])[0]
        paired = bops.selected_costs(alphas, table=[table], fixed=[5.0], weight_alphas=of_weights)[0]
    assert float(plain) == float(paired) == 5 + 4 + 6
    np.testing.assert_array_equal(tape.gradient(plain, alphas), tape.gradient(paired, alphas))
    np.testing.assert_array_equal(tape.gradient(paired, of_weights), [[0.0], [0.0]])


def test_a_sequence_of_one_is_the_single_value():
    search = mmx_tf.augment(small_network(), weight_bits=(4,), target_bops=4e5)
    assert search.budget == mmx_tf.augment(small_network(), weight_bits=4, target_bops=4e5).budget
    assert search.weight_quantizers == {} and search.alpha.shape == (1, 3, 3)


def test_regularizer_and_gradients_at_equal_alphas_by_hand(search):
    """8 x 8 bits are chosen. (1, -1/3, -2/3) of the activations' bits, (10, -2, -8) / 9 of the weights'."""
    with tf.GradientTape() as tape:
        gap = search.regularizer()
    assert float(gap) == pytest.approx((ENDS + 8832 * 64) / TARGET - 1, rel=1e-6)
    assert float(search.selected_bops()) == ENDS + 8832 * 64
    gradients = alphas.rows(search, tape.gradient(gap, search.alpha))
    for layer, macs in enumerate(MACS):
        expected = np.array([1, -1 / 3, -2 / 3]) * macs * 8 / TARGET
        np.testing.assert_allclose(gradients[layer], expected, rtol=1e-5)
        expected = np.array([10 / 9, -2 / 9, -8 / 9]) * macs * 8 / TARGET
        np.testing.assert_allclose(gradients[3 + layer], expected, rtol=1e-5)


def test_each_gradient_has_the_other_hard_choice_as_its_factor(search):
    """Weights at softmax 1/4, 2/4, 1/4: 4 bits, mean 4.5; activations at 1/8, 2/8, 5/8: 3 bits, mean 31/8."""
    alphas.set_rows(search, np.log([[1.0, 2.0, 5.0]] * 3 + [[1.0, 2.0, 1.0]] * 3))
    with tf.GradientTape() as tape:
        gap = search.regularizer()
    # 12 bits squared are below the target, so the gradients turn.
    assert float(gap) == pytest.approx(1 - (ENDS + 8832 * 12) / TARGET, rel=1e-6)
    gradients = alphas.rows(search, tape.gradient(gap, search.alpha))
    expected = np.array([1 / 8 * (8 - 31 / 8), 2 / 8 * (4 - 31 / 8), 5 / 8 * (3 - 31 / 8)]) * 4
    np.testing.assert_allclose(gradients[0], -expected * MACS[0] / TARGET, rtol=1e-5)
    expected = np.array([1 / 4 * (8 - 4.5), 2 / 4 * (4 - 4.5), 1 / 4 * (2 - 4.5)]) * 3
    np.testing.assert_allclose(gradients[3], -expected * MACS[0] / TARGET, rtol=1e-5)


def test_reachable_bops_by_hand():
    free = mmx_tf.augment(small_network(), bit_widths=BITS, weight_bits=WEIGHTS).budget
    assert free.reachable == (ENDS + 8832 * 6, ENDS + 8832 * 64)
    with pytest.raises(ValueError, match=f"8, 4, 2-bit weights this network takes {ENDS + 8832 * 6} to"):
        mmx_tf.augment(small_network(), bit_widths=BITS, weight_bits=WEIGHTS, target_bops=ENDS)


# Steps.


def test_meta_steps_cover_every_pair_at_the_cost_of_b_passes():
    for bits, weights in (((8, 4, 3), (8, 4, 2)), ((8, 4), (8, 6, 4, 2)), ((8, 6, 4, 2), (4, 2))):
        search = searched(bit_widths=bits, weight_bits=weights, target_bops=None)
        pairs = []
        for step in range(len(weights)):
            search.optimizer.iterations.assign(7 + step)
            pairs += [(i, int(passes.weight_branch(search, i))) for i in range(len(bits))]
        assert sorted(pairs) == [(i, k) for i in range(len(bits)) for k in range(len(weights))]


@pytest.mark.parametrize("step", [0, 1, 2])
def test_meta_gradient_is_the_mean_over_the_networks_of_the_step(batch, step):
    """Plain SGD at learning rate 1 moves everything by minus the mean of the B gradients."""
    search = searched(
        batch_norm=False, optimizer=keras.optimizers.SGD(1.0), step_optimizer=keras.optimizers.SGD(1.0)
    )
    images, labels = batch
    search(images, branch=0)
    search.optimizer.iterations.assign(step)
    variables = search.meta_weights + search.step_sizes
    assert len(search.step_sizes) == 2 + 3 + 3
    expected = [0.0] * len(variables)
    for branch in range(3):
        with tf.GradientTape() as tape:
            outputs = search(images, training=True, branch=branch, weight_branch=(branch + step) % 3)
            value = search.task_loss(labels, outputs)
        gradients = tape.gradient(value, variables, unconnected_gradients="zero")
        expected = [e + tf.convert_to_tensor(g).numpy() / 3 for e, g in zip(expected, gradients, strict=True)]
    before = values(variables)
    search.bit_meta_step(images, labels)
    for old, new, gradient in zip(before, variables, expected, strict=True):
        floor = -np.inf if new.constraint is None else 1e-6
        np.testing.assert_allclose(new.numpy(), np.maximum(old - gradient, floor), rtol=1e-4, atol=1e-6)


def test_meta_step_moves_the_step_sizes_of_weights_but_not_alpha(search, batch):
    search(batch[0], branch=0)
    steps, before = values(search.step_sizes), alphas.rows(search)
    search.bit_meta_step(*batch)
    assert all(moved(steps, search.step_sizes))
    assert not any(alphas.moved(before, search))


def test_search_step_moves_the_alphas_alone(search, batch):
    search.bit_meta_step(*batch)
    start = alphas.rows(search)
    others = search.network.variables + search.step_sizes
    before = values(others)
    search.bit_search_step(*batch)
    assert len(start) == 6 and all(alphas.moved(start, search))
    assert not any(moved(before, others))


def test_search_gradient_is_that_of_the_mix_of_all_branches(search, batch):
    """The joint mix, a plain sum of quantizers that TensorFlow differentiates, has the same."""
    images, labels = batch
    search(images, branch=0)
    alphas.set_rows(search, np.random.default_rng(0).normal(0, 1, (6, 3)))
    gradient, loss = algorithm.alpha_gradient(search, (images, labels, None), search.targets[0].alpha, None)
    with tf.GradientTape() as tape:
        expected = search.task_loss(labels, search(images, training=True, branch=JOINT))
        total = expected + search.regularizer()
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)
    np.testing.assert_allclose(gradient, tape.gradient(total, search.alpha)[0], rtol=1e-2, atol=1e-5)
    assert np.abs(gradient).min() > 0


def test_fit_trains_logs_and_is_traced_once(search, digits):
    data = digits.train(batch_size=64, seed=0).take(2)
    traces, train_step = [], search.train_step

    def counted(batch):
        traces.append(1)
        return train_step(batch)

    search.train_step = counted
    history = search.fit(data, epochs=3, verbose=0).history
    assert len(traces) == 1
    assert history["weight_alpha_entropy"][0] == pytest.approx(np.log(3), abs=1e-5)
    assert history["weight_alpha_entropy"][2] < np.log(3) - 1e-4
    assert history["bops"][0] == pytest.approx(ENDS + 8832 * 64)
    assert all(alphas.moved([np.zeros(3)] * 6, search))


def test_searches_that_train_weights_train_the_step_sizes_of_weights(batch):
    search = searched(train_weights_in_search=True)
    search.bit_meta_step(*batch)
    groups = [search.meta_weights, search.step_sizes, [search.alpha]]
    before = [values(group) for group in groups]
    search.bit_search_step(*batch)
    for old, group in zip(before, groups, strict=True):
        assert all(moved(old, group))


# Targets, selection, rebuild, files.


@pytest.mark.slow
def test_each_target_finds_the_alphas_of_a_search_of_its_own(batch):
    targets = [ENDS + 8832 * 6, ENDS + 8832 * 30]
    found = []
    for target in (targets, *targets):
        search = searched(target_bops=target)
        search(batch[0], branch=0)
        for _ in range(3):
            search.bit_meta_step(*batch)
            search.bit_search_step(*batch)
        found.append(search)
    joint, *alone = found
    assert len({row.name for row in joint.alpha_rows()}) == 12
    for target, single in zip(joint.targets, alone, strict=True):
        np.testing.assert_allclose(target.alpha, single.alpha[0], rtol=1e-4, atol=1e-6)
    assert np.abs(np.subtract(*(search.alpha.numpy() for search in alone))).max() > 0.01
    for selection, target in zip(joint.bit_selections(), targets, strict=True):
        assert selection.target_bops == target and selection.bops <= target


PAIRS = [(2, 8), (4, 3), (8, 4)]


def test_the_selection_names_both_bits(search, tmp_path):
    choose(search, PAIRS)
    selection = search.bit_selection(repair=False)
    chosen = [(layer.weight_bits, layer.activation_bits) for layer in selection.layers]
    assert chosen == [(8, 8), *PAIRS, (8, 8)]
    assert selection.bops == ENDS + 3456 * 16 + 2304 * 12 + 3072 * 32
    assert selection.weight_bit_widths == WEIGHTS
    selection.save(tmp_path / "bits.json")
    assert BitSelection.load(tmp_path / "bits.json") == selection


def test_the_repair_is_logged_with_what_it_flips(search, caplog):
    choose(search, [(8, 8)] * 3)
    alphas.set_row(search, 1, [0.3, 0.2, 0.0], of_weights=True)
    with caplog.at_level("INFO", logger="absl"):
        selection = search.bit_selection()
    # Without project's 0.3 a third layer would give up 10.
    assert "budget repair: weights of project 8 -> 2 bits (alpha margin 0.3)" in caplog.text
    words = "3 flips (3 down, 0 up) took 792 kBOPs to 368 kBOPs (budget 385 kBOPs, 4.58% of it unused)"
    assert words in caplog.text
    assert selection.bops <= TARGET


@pytest.fixture(scope="module")
def trained(digits):
    """A search after three bit-meta steps, so that step sizes of weights have left LSQ's rule."""
    search = searched()
    search.fit(digits.train(batch_size=64, seed=0).take(3), epochs=1, verbose=0)
    choose(search, PAIRS)
    return search


def test_the_fixed_network_is_the_search_network_on_the_chosen_branches(trained, batch):
    """Its weights are quantized by the quantizers of the search here, and by its own below."""
    selection = trained.bit_selection(repair=False)
    fixed = mmx_tf.rebuild(trained, selection, quantized_weights=False, carriers=False)
    for (name, quantizer), (bits, _) in zip(trained.weight_quantizers.items(), PAIRS, strict=True):
        kernel = kernel_of(fixed.get_layer(name))
        kernel.assign(quantizer(kernel, branch=WEIGHTS.index(bits)))
    np.testing.assert_array_equal(fixed(batch[0]), trained(batch[0]))


def test_the_fixed_network_starts_from_the_trained_step_sizes_of_weights(trained):
    selection = trained.bit_selection(repair=False)
    fixed = mmx_tf.rebuild(trained, selection)
    for (name, quantizer), (bits, _) in zip(trained.weight_quantizers.items(), PAIRS, strict=True):
        config = fixed.get_layer(f"quant_{name}").quantize_config
        assert config.bits == bits
        steps = config.quantizer.step_size.numpy()
        np.testing.assert_array_equal(steps, quantizer.step_sizes[WEIGHTS.index(bits)])
        config.quantizer.initialize(config.kernel)
        assert np.abs(steps / config.quantizer.step_size.numpy() - 1).max() > 1e-3
        quantized = config.quantizer(config.kernel, True, {"step_size": tf.constant(steps)})
        np.testing.assert_array_equal(quantized, quantizer(config.kernel, branch=WEIGHTS.index(bits)))
    # One step size a tensor was not searched.
    config = mmx_tf.rebuild(trained, selection, per_channel=False).get_layer("quant_project").quantize_config
    assert config.quantizer.step_size.shape == ()


def test_weight_bits_that_are_no_candidates_are_refused(trained):
    selection = mmx_tf.augment(small_network(), bit_widths=BITS, weight_bits=3).selection_of([0] * 3)
    with pytest.raises(SelectionMismatchError, match=r"depthwise: weight_bits 3 is not among \(8, 4, 2\)"):
        mmx_tf.rebuild(trained, selection)


@pytest.mark.parametrize("storage", STORAGES)
def test_the_file_of_mixed_weights_computes_what_was_trained(trained, digits, storage):
    fixed = mmx_tf.rebuild(trained, trained.bit_selection(repair=False))
    evaluation = digits.evaluation(batch_size=32).take(2)
    for images, _ in evaluation:
        fixed(images)
    folded = mmx_tf.fold(fixed, weight_storage=storage)
    content = mmx_tf.convert(folded, weight_storage=storage)
    if storage in ("int8", "int4_xnnpack"):
        assert mmx_tf.verify(folded, content, evaluation).code_disagreement == 0
    layers = {layer.name: layer for layer in inspect.layers(content)}
    assert [(layers[n].weight_bits, layers[n].activation_bits) for n in trained.quantizers] == PAIRS
    # XNNPACK takes no packed weights of depthwise convolutions.
    types = {"int8": ["INT8"] * 3, "int4": ["INT4", "INT4", "INT8"], "int4_xnnpack": ["INT8", "INT4", "INT8"]}
    types["int4_micro"] = types["int4"]
    assert [layers[name].weight_type for name in trained.quantizers] == types[storage]


@pytest.mark.slow
@pytest.mark.parametrize("targets", [TARGET, [TARGET, TARGET + 10_000]])
def test_it_saves_loads_and_searches_on(batch, tmp_path, targets):
    search = searched(target_bops=targets)
    search.bit_meta_step(*batch)
    search.bit_search_step(*batch)
    search.save(tmp_path / "search.keras")
    loaded = mmx_tf.load_model(tmp_path / "search.keras")
    np.testing.assert_array_equal(loaded(batch[0]), search(batch[0]))
    for ours, theirs in (([loaded.alpha], [search.alpha]), (loaded.step_sizes, search.step_sizes)):
        for one, other in zip(values(ours), values(theirs), strict=True):
            np.testing.assert_array_equal(one, other)
    assert [t.budget for t in loaded.targets] == [t.budget for t in search.targets]
    assert loaded.bit_selections() == search.bit_selections()
    loaded.compile(loss=search.loss)
    loaded.bit_meta_step(*batch)
    loaded.bit_search_step(*batch)


def test_the_watch_sees_what_belongs_to_weights(trained, batch):
    data = tf.data.Dataset.from_tensors(batch)
    options = {"batches": lambda *_: data, "steps_per_epoch": 3, "early": (0, 3)}
    kept = trained.alpha.numpy()
    alphas.set_rows(trained, np.zeros(3))
    watch = Watch("select", TrainedSearch(trained), **options)
    watch.before_step()
    alphas.set_row(trained, 1, [0.0, 0.0, 6.0], of_weights=True)
    with pytest.raises(DivergenceError, match="project_weight_quantizer has 2 bits with probability 0.9951"):
        watch.after_step({"loss": 1.0}, epoch=0, step=0)
    trained.alpha.assign(kept)
    steps = trained.weight_quantizers["expand"].step_sizes
    before = steps.numpy()
    steps.assign(tf.fill(steps.shape, np.nan))
    with pytest.raises(DivergenceError, match="a weight is NaN or infinite"):
        watch.after_step({"loss": 1.0}, epoch=0, step=0)
    np.testing.assert_array_equal(steps, before)  # the step is repeated from the weights before it
    choose(trained, PAIRS)


# What is refused.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": (8, 4, 4)}, r"weight_bits=\(8, 4, 4\): candidates are distinct integers in 2..8"),
        ({"weight_bits": (8, 1)}, r"weight_bits=\(8, 1\): candidates are distinct integers in 2..8"),
        ({"weight_bits": ()}, r"weight_bits=\(\): candidates"),
        ({"weight_bits": "8"}, "weight_bits='8'"),
        (
            {"weight_bits": (4, 2), "target_average_bits": 4},
            r"target_average_bits=4 with weight_bits=\(4, 2\)",
        ),
        (
            {"weight_bits": (4, 2), "target_ram": 4000},
            r"target_ram=4000 with weight_bits=\(4, 2\): it counts activation bits alone",
        ),
    ],
)
def test_weight_bits_that_make_no_search_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mmx_tf.augment(small_network(), **options)


def test_average_bits_are_no_bops_of_weight_candidates():
    with pytest.raises(ValueError, match=r"weight candidates \(4, 2\)"):
        Budget((), BITS, (4, 2), 8).bops_at(4)
