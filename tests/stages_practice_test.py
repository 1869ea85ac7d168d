"""Activations trained before weights are quantized, and batch norm's statistics estimated anew."""

import numpy as np
import pytest
import tf_keras as keras
from networks import small_network

import mmx_tf
from mmx_tf.errors import RecipeError
from mmx_tf.layers.quantizers.weights import QuantizeWrapper
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run import phases
from mmx_tf.workdir import checkpoints
from mmx_tf.workdir.workdir import Workdir

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def search(digits):
    keras.utils.set_random_seed(2)
    made = mmx_tf.augment(small_network(), target_average_bits=4.0)
    made(next(iter(digits.train(batch_size=32, seed=0)))[0], branch=0)
    return made


@pytest.fixture(scope="module")
def selection(search):
    return search.selection_of([1] * len(search.quantizers))


# Batch norm by hand.


def normalizing(momentum=0.9):
    norm = keras.layers.BatchNormalization(momentum=momentum)
    return keras.Sequential([keras.Input((1,)), norm]), norm


def test_statistics_are_the_mean_of_those_of_the_batches():
    """Batches (0, 2) and (3, 9): means 1 and 6, variances 1 and 9."""
    model, norm = normalizing()
    batches = [(np.float32([[0], [2]]), np.zeros(2)), (np.float32([[3], [9]]), np.zeros(2))]
    assert mmx_tf.reestimate_batch_norm(model, batches) == 2
    assert norm.moving_mean.numpy().item() == pytest.approx(3.5, rel=1e-5)
    assert norm.moving_variance.numpy().item() == pytest.approx(5.0, rel=1e-5)
    # Batches without labels too; what was there before does not count.
    assert mmx_tf.reestimate_batch_norm(model, [np.float32([[0], [2]])]) == 1
    assert norm.moving_mean.numpy().item() == pytest.approx(1.0, rel=1e-5)


def test_what_does_not_move_is_left_alone():
    model, norm = normalizing(momentum=1.0)
    mmx_tf.reestimate_batch_norm(model, [np.float32([[4], [6]])])
    assert norm.moving_mean.numpy().item() == 0.0
    model, norm = normalizing()
    with pytest.raises(ValueError, match="there is no batch"):
        mmx_tf.reestimate_batch_norm(model, [])
    assert (norm.moving_mean.numpy().item(), norm.moving_variance.numpy().item()) == (0.0, 1.0)


def test_a_fixed_network_has_the_statistics_of_its_own_tensors(search, selection, digits):
    """Against float64 means of what enters the first and the last batch norm, on two batches."""
    fixed = mmx_tf.rebuild(search, selection)
    batches = [images for images, _ in digits.train(batch_size=32, seed=1).take(2)]
    norms = [layer for layer in fixed.layers if isinstance(layer, keras.layers.BatchNormalization)]
    trained = [weights.copy() for weights in fixed.get_weights()]
    mmx_tf.reestimate_batch_norm(fixed, batches)
    for norm in (norms[0], norms[-1]):
        inside = keras.Model(fixed.inputs, norm.input)
        values = [np.float64(inside(images, training=True)).reshape(-1, norm.gamma.shape[0])
                  for images in batches]  # fmt: skip
        np.testing.assert_allclose(norm.moving_mean, np.mean([v.mean(0) for v in values], 0), atol=1e-3)
    moved = [not np.array_equal(a, b) for a, b in zip(trained, fixed.get_weights(), strict=True)]
    names = [variable.name for variable, changed in zip(fixed.weights, moved, strict=True) if changed]
    assert len(names) >= 2 * len(norms)
    assert all("moving_" in name or "step_size" in name or "initialized" in name for name in names)


# The stage of activations.


def test_quantized_weights_start_from_the_stage_before(search, selection, digits):
    first = mmx_tf.rebuild(search, selection, quantized_weights=False)
    assert not any(isinstance(layer, QuantizeWrapper) for layer in first.layers)
    first.compile(keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    first.fit(digits.train(batch_size=32, seed=0).take(3), verbose=0)
    fixed = mmx_tf.rebuild(search, selection, start=first)
    known = {layer.name: layer for layer in first.layers}
    kernels = 0
    for layer in fixed.layers:
        if isinstance(layer, QuantizeWrapper):
            kernel = layer.quantize_config.kernel.numpy()
            np.testing.assert_array_equal(kernel, known[layer.layer.name].get_weights()[0])
            quantizer = layer.quantize_config.quantizer
            axes = tuple(i for i, size in enumerate(quantizer.step_shape) if size == 1) or None
            # LSQ's rule on the kernel of now.
            mean = np.abs(np.float64(kernel)).mean(axis=axes, keepdims=bool(quantizer.step_shape))
            np.testing.assert_allclose(quantizer.step_size, 2 * mean / np.sqrt(quantizer.high), rtol=1e-5)
            kernels += 1
        elif layer.weights:
            for ours, theirs in zip(layer.get_weights(), known[layer.name].get_weights(), strict=True):
                np.testing.assert_array_equal(ours, theirs)
    assert kernels == 5
    changed = mmx_tf.rebuild(search, selection)
    assert any(
        not np.array_equal(a, b) for a, b in zip(changed.get_weights(), fixed.get_weights(), strict=True)
    )
    with pytest.raises(ValueError, match="quantized_weights=False"):
        mmx_tf.rebuild(search, selection, start=changed)


def test_a_stage_has_epochs_and_a_schedule_of_its_own(search, selection, digits, tmp_path):
    flags = [
        "--image_size=16", "--float_epochs=1", "--batch_size=32", "--steps_per_epoch=2", "--eval_images=8",
        "--activation_epochs=2", "--train_epochs=1", "--learning_rate=0.01", f"--workdir={tmp_path}",
    ]  # fmt: skip
    recipe = Recipe.from_flagfile("\n".join(flags))
    recipe.validate()
    first = mmx_tf.rebuild(search, selection, quantized_weights=False)
    phases.train_activations(Workdir(recipe), recipe, digits, first)
    facts = checkpoints.newest_facts(tmp_path / "checkpoints" / "activation")
    assert facts["epoch"] == 2 and len(facts["history"]["val_accuracy"]) == 2
    # Half a cosine over its four steps: at the end the rate is 0.
    assert int(first.optimizer.iterations) == 4
    assert first.optimizer.learning_rate.numpy() == pytest.approx(0.01 * (1 + np.cos(np.pi * 0.75)) / 2)
    assert not (tmp_path / "checkpoints" / "train").exists()


def test_statistics_of_another_graph_are_refused():
    recipe = Recipe.from_flagfile("--workdir=x\n--float_epochs=1\n--batch_norm_images=9\n--folded_epochs=1")
    with pytest.raises(RecipeError, match="--batch_norm_images=9 .*0 with --folded_epochs"):
        recipe.validate()
