"""Selections that no search made, and searches that leave a part of MetaMix out."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from budget_test import budget, problems
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import small_network

import mmx_tf
from mmx_tf.budget.bops import layer_costs
from mmx_tf.budget.budget import Budget
from mmx_tf.distribution.job import ALONE
from mmx_tf.errors import RecipeError
from mmx_tf.layers.branches import JOINT, MIXED
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer
from mmx_tf.network.canonical import canonicalize
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run import stages
from mmx_tf.run.given_selection import bit_probabilities, given_selection, random_choice
from mmx_tf.run.pipeline import run, search_network
from mmx_tf.run.run import Run
from mmx_tf.workdir import checkpoints
from mmx_tf.workdir.workdir import Workdir

ENDS, SEARCHED = 3536 * 64, 8832 * 4
"""Of tests/networks.py's network: BOPs of first and last layers; MACs times weight bits of the others."""


@pytest.fixture(scope="module")
def batch(digits):
    return next(iter(digits.train(batch_size=32, seed=0)))


def recipe_of(workdir, float_file, *more) -> Recipe:
    lines = [
        f"--float_model={float_file}", "--image_size=16", "--batch_size=32", "--steps_per_epoch=2",
        "--train_epochs=1", "--learning_rate=0.002", "--eval_images=64", "--target_average_bits=4.5",
        "--parity_images=8", f"--workdir={workdir}",
    ]  # fmt: skip
    recipe = Recipe.from_flagfile("\n".join([*lines, *more]))
    recipe.validate()
    return recipe


def bits_of(workdir) -> dict[str, int]:
    document = json.loads((workdir / "bit_selection.json").read_text())
    return {layer["name"]: layer["activation_bits"] for layer in document["layers"]}


def values(variables):
    return [variable.numpy().copy() for variable in variables]


def moved(before, variables):
    return [not np.array_equal(old, new.numpy()) for old, new in zip(before, variables, strict=True)]


# Random choices.


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(0, 2**31 - 1))
def test_a_random_choice_meets_the_budget_and_depends_on_the_seed_alone(problem, seed):
    limit = problem[0]
    choice = random_choice(limit, seed)
    assert choice == random_choice(limit, seed)
    assert limit.bops_of(choice) <= limit.target_bops
    assert set(choice) <= set(range(len(limit.bit_widths))) and len(choice) == len(limit.searched)
    # As of a search's selection, no layer can be raised within what is left.
    left = limit.target_bops - limit.bops_of(choice)
    for costs, i in zip(limit.bops_costs.table, choice, strict=True):
        assert not any(0 < cost - costs[i] <= left for cost in costs)


@pytest.mark.slow
@pytest.mark.parametrize("average", [3.2, 4.0, 5.0, 7.0])
def test_a_random_choice_spends_the_budget_of_a_network(average):
    """MobileNet-v2's 51 searched layers."""
    network = mmx_tf.models.build("mobilenet_v2", input_shape=(224, 224, 3), num_classes=1000)
    costs = tuple(layer_costs(canonicalize(network)))
    free = Budget(costs, (8, 4, 3), weight_bits=4, first_last_bits=8)
    limit = dataclasses.replace(free, target_bops=free.bops_at(average))
    choices = [random_choice(limit, seed) for seed in range(8)]
    for choice in choices:
        assert 0.9998 * limit.target_bops < limit.bops_of(choice) <= limit.target_bops
    assert len({tuple(choice) for choice in choices}) == 8
    # No layer is preferred for its cost: 8 * 51 draws, standard error of their mean at most 0.11.
    bits = [limit.bit_widths[branch] for choice in choices for branch in choice]
    assert np.mean(bits) == pytest.approx(average, abs=0.5)


def test_probabilities_by_hand():
    """Of 8, 4 and 3 bits the mean 5 is that of equal ones; of 2 and 4 the mean 3.5 is 1/4 and 3/4."""
    np.testing.assert_allclose(bit_probabilities((8, 4, 3), 5.0), [1 / 3] * 3, rtol=1e-6)
    np.testing.assert_allclose(bit_probabilities((4, 2), 3.5), [0.75, 0.25], rtol=1e-6)
    np.testing.assert_allclose(bit_probabilities((8, 4, 3), 3.0), [0, 0, 1], atol=1e-9)
    first, second, third = bit_probabilities((8, 4, 3), 4.0)
    assert 8 * first + 4 * second + 3 * third == pytest.approx(4.0)
    # p ~ exp(t b): the ratio from 4 to 8 bits is the fourth power of that from 3 to 4.
    assert first / second == pytest.approx((second / third) ** 4, rel=1e-5)


@pytest.mark.parametrize(("target", "choice"), [(612, [2, 2, 2]), (1312, [0, 0, 0])])
def test_a_budget_that_only_one_choice_spends(target, choice):
    """192 + 4 * 35 * 3 = 612, 192 + 4 * 35 * 8 = 1312."""
    assert all(random_choice(budget(target), seed) == choice for seed in range(5))


def test_global_seeds_do_not_matter():
    limit = budget(1000)
    keras.utils.set_random_seed(1)
    first = random_choice(limit, 3)
    keras.utils.set_random_seed(2)
    assert random_choice(limit, 3) == first


# Selections from a file.


@pytest.mark.slow
def test_a_file_gives_activation_bits_and_the_recipe_the_rest(float_file, tmp_path):
    made = mmx_tf.augment(small_network(), weight_bits=4, target_average_bits=8).selection_of([0, 1, 2])
    made.save(tmp_path / "bits.json")
    flags = [f"--bit_selection={tmp_path / 'bits.json'}", "--weight_bits=3"]
    recipe = recipe_of(tmp_path / "run", float_file, *flags)
    search = mmx_tf.augment(small_network(), weight_bits=3, target_average_bits=6)
    found = given_selection(recipe, search)
    assert [layer.activation_bits for layer in found.layers] == [8, 8, 4, 3, 8]
    assert [layer.weight_bits for layer in found.layers] == [8, 3, 3, 3, 8]
    # MACs 3456, 2304 and 3072.
    assert found.bops == ENDS + 3 * (3456 * 8 + 2304 * 4 + 3072 * 3)
    assert found.target_bops == search.budget.target_bops
    small = mmx_tf.augment(small_network(), weight_bits=3, target_average_bits=4)
    with pytest.raises(RecipeError, match=f"takes {found.bops} BOPs with --weight_bits=3"):
        given_selection(recipe, small)


def test_a_file_of_another_network_is_refused_before_anything_is_written(float_file, tmp_path):
    made = mmx_tf.augment(small_network(), target_average_bits=4).selection_of([2, 2, 2])
    first = dataclasses.replace(made.layers[0], name="other")
    dataclasses.replace(made, layers=(first, *made.layers[1:])).save(tmp_path / "bits.json")
    with pytest.raises(RecipeError, match="other: not in the network"):
        run(recipe_of(tmp_path / "run", float_file, f"--bit_selection={tmp_path / 'bits.json'}"))
    assert not (tmp_path / "run").exists()


# Searches.


def compiled(**options):
    keras.utils.set_random_seed(3)
    search = mmx_tf.augment(small_network(), target_average_bits=4.0, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    search.compile(optimizer=keras.optimizers.SGD(0.05), loss=loss, metrics=["accuracy"])
    return search


@pytest.mark.parametrize("elements", [3, 40_000], ids=["small", "compiled by XLA"])
def test_the_joint_mix_has_the_search_steps_values_and_gradients_of_step_sizes_too(elements):
    quantizer = MultiBranchQuantizer(bit_widths=(8, 4, 3), signed=False)
    x = tf.constant(np.random.default_rng(0).uniform(-0.5, 3.0, (2, elements)).astype(np.float32))
    quantizer(x, branch=0)
    alpha = tf.Variable([0.3, -0.2, 0.5])
    variables = [alpha, quantizer.step_sizes]

    def run_with(branch):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = quantizer(x, branch=branch, alpha=alpha)
            loss = tf.reduce_sum(output * tf.cos(x))
        return output, *tape.gradient(loss, [x, *variables])

    mixed, joint = run_with(MIXED), run_with(JOINT)
    for ours, theirs in zip(joint[:3], mixed[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    assert mixed[3] is None
    single = sum(tf.convert_to_tensor(run_with(branch)[3]).numpy() for branch in range(3))
    expected = tf.nn.softmax(alpha).numpy() * single
    limit = quantizer.step_sizes.numpy()
    assert np.all(single < limit)  # so that `limit_shrinking` has no part in it
    np.testing.assert_allclose(tf.convert_to_tensor(joint[3]), expected, rtol=1e-3, atol=1e-5)


def test_search_steps_may_train_weights_and_step_sizes(batch):
    search = compiled(train_weights_in_search=True)
    search.bit_meta_step(*batch)
    groups = [search.meta_weights, search.step_sizes, [search.alpha], search.batch_norm_statistics]
    before = [values(group) for group in groups]
    search.bit_search_step(*batch)
    for old, group in zip(before, groups, strict=True):
        assert all(moved(old, group))


def test_without_meta_training_everything_moves_from_the_first_step_on(digits):
    search = compiled(meta_training=False)
    assert (search.meta_epochs, search.train_weights_in_search) == (0, True)
    before = [values(group) for group in (search.meta_weights, [search.alpha])]
    history = search.fit(digits.train(batch_size=32, seed=0).take(2), epochs=1, verbose=0).history
    for old, group in zip(before, (search.meta_weights, [search.alpha]), strict=True):
        assert all(moved(old, group))
    assert history["loss"][0] == pytest.approx(history["search_loss"][0], rel=1e-5)
    assert 0 <= history["accuracy"][0] <= 1


def test_running_statistics_of_the_passes(batch):
    """One after the other, or not at all; what the mean is, search_test says."""
    found = {}
    for update in ("sequential", "none"):
        search = compiled(batch_norm_update=update)
        search(batch[0], branch=0)
        start = values(search.batch_norm_statistics)
        search.bit_meta_step(*batch)
        found[update] = values(search.batch_norm_statistics)
    assert all(np.array_equal(a, b) for a, b in zip(found["none"], start, strict=True))
    search = compiled()
    search(batch[0], branch=0)
    for branch in range(3):
        search(batch[0], training=True, branch=branch)
    for value, expected in zip(found["sequential"], search.batch_norm_statistics, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-7)


def test_other_updates_are_refused():
    with pytest.raises(ValueError, match="batch_norm_update='median'"):
        compiled(batch_norm_update="median")


def test_a_saved_search_keeps_what_it_leaves_out(tmp_path, batch):
    search = compiled(train_weights_in_search=True, batch_norm_update="none")
    search(batch[0], branch=0)
    search.save(tmp_path / "search.keras")
    loaded = mmx_tf.load_model(tmp_path / "search.keras")
    kept = (loaded.meta_training, loaded.train_weights_in_search, loaded.batch_norm_update)
    assert kept == (True, True, "none")


# Whole runs.


@pytest.fixture(scope="module")
def random_run(float_file, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("random") / "run"
    return workdir, run(recipe_of(workdir, float_file, "--selection=random", "--seed=3"))


@pytest.mark.slow
def test_a_run_with_random_bits(random_run):
    workdir, metrics = random_run
    limit = mmx_tf.augment(small_network(), target_average_bits=4.5).budget
    choice = random_choice(limit, 3)
    bits = [8, *(limit.bit_widths[branch] for branch in choice), 8]
    assert list(bits_of(workdir).values()) == bits
    assert metrics["bops"] <= metrics["target_bops"] == ENDS + SEARCHED * 4.5
    assert metrics["code_disagreement"] == 0.0
    # Both epochs are meta training.
    steps = checkpoints.newest_facts(workdir / "checkpoints" / "select")["steps"]
    assert len(steps["loss"]) == 4 and set(steps["search_loss"]) == {0.0}
    assert steps["alpha_entropy"] == pytest.approx([np.log(3)] * 4)


@pytest.mark.slow
def test_a_run_from_scratch_with_the_bits_of_a_file(random_run, float_file, tmp_path):
    path = random_run[0] / "bit_selection.json"
    recipe = recipe_of(tmp_path / "run", float_file, f"--bit_selection={path}", "--from_scratch")
    metrics = run(recipe)
    assert bits_of(tmp_path / "run") == bits_of(random_run[0])
    assert metrics["bops"] == random_run[1]["bops"]
    # Nothing that the run ends with comes from a search.
    assert not (tmp_path / "run" / "checkpoints" / "select").exists()
    assert "select" not in metrics["seconds"]
    assert metrics["fixed_top1"] > 0.2


def test_one_bit_width_among_several(float_file, digits, tmp_path):
    options = ["--selection=uniform", "--uniform_bits=3", "--candidate_bits=8,4,3"]
    recipe = recipe_of(tmp_path / "run", float_file, *options)
    search = search_network(recipe, small_network(), digits)
    found = given_selection(recipe, search)
    assert [layer.activation_bits for layer in found.layers] == [8, 3, 3, 3, 8]
    assert found.bops == found.target_bops == ENDS + SEARCHED * 3


@pytest.mark.slow
def test_a_run_at_one_bit_width(float_file, tmp_path):
    options = ["--selection=uniform", "--uniform_bits=3", "--candidate_bits=3"]
    recipe = recipe_of(tmp_path / "run", float_file, *options)
    metrics = run(recipe)
    assert list(bits_of(tmp_path / "run").values()) == [8, 3, 3, 3, 8]
    assert metrics["bops"] == metrics["target_bops"] == ENDS + SEARCHED * 3


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--nometa_training", "--train_weights_in_search"])
def test_a_search_with_a_part_left_out(float_file, digits, tmp_path, flag):
    recipe = recipe_of(tmp_path / "run", float_file, flag)
    with Workdir.opened(recipe, ALONE) as workdir:
        stages.search_stage(Run(workdir, recipe, digits), search_network(recipe, small_network(), digits))
    steps = checkpoints.newest_facts(tmp_path / "run" / "checkpoints" / "select")["steps"]
    entropies = [entropy < np.log(3) - 1e-6 for entropy in steps["alpha_entropy"]]
    assert entropies == ([True] * 4 if flag == "--nometa_training" else [False, False, True, True])
