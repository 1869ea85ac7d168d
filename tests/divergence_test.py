"""Training that goes wrong is found in its step, told by layer, and stopped or recovered from."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from listening import logged
from networks import pretrained, small_network

import mmx_tf
from mmx_tf.errors import DivergenceError
from mmx_tf.fitting.divergence import Watch, collapsed_quantizers
from mmx_tf.fitting.trained import Trained
from mmx_tf.metamix.trained_search import TrainedSearch
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run.pipeline import run
from tests import alphas

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def of_small_network():
    """(compiled network, its watch) on one batch of noise."""
    keras.utils.set_random_seed(0)
    network = small_network()
    network.compile("sgd", LOSS)
    images = tf.random.stateless_normal((8, 16, 16, 1), [0, 0])
    batch = tf.data.Dataset.from_tensors((images, tf.range(8)))
    return network, Watch("float", Trained(network), batches=lambda epoch, step: batch, steps_per_epoch=10)


def test_a_healthy_step_is_passed():
    network, watch = of_small_network()
    watch.before_step()
    watch.after_step({"loss": 2.3, "accuracy": float("nan")}, epoch=0, step=0)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_told_with_the_layer_that_overflowed(loss):
    network, watch = of_small_network()
    kernel = network.get_layer("project").kernel
    kernel.assign(tf.fill(kernel.shape, 3e38))  # finite; sums of its products are not
    watch.before_step()
    for variable in network.weights:
        variable.assign(variable * float("nan"))  # as the update with such a gradient leaves them
    message = f"float, epoch 2, step 5: the loss is {loss}; the first output that is not finite is that of"
    with pytest.raises(DivergenceError, match=f"{message} layer 'project'"):
        watch.after_step({"loss": loss}, epoch=1, step=4)


def test_a_gradient_that_is_no_number_is_told_with_its_layer():
    network, watch = of_small_network()
    # sqrt'(0) is infinite, sqrt(0) is not.
    inputs = keras.Input((4,))
    root = keras.layers.Lambda(lambda x: tf.sqrt(tf.nn.relu(x)), name="root")
    x = keras.layers.Dense(3, kernel_initializer="zeros", name="before")(inputs)
    network = keras.Model(inputs, keras.layers.Dense(2, name="behind")(root(x)))
    network.compile("sgd", LOSS)
    batch = tf.data.Dataset.from_tensors((tf.ones((2, 4)), tf.range(2)))
    watch = Watch("float", Trained(network), batches=lambda epoch, step: batch, steps_per_epoch=1)
    watch.before_step()
    network.train_on_batch(tf.ones((2, 4)), tf.range(2))
    with pytest.raises(DivergenceError, match="a weight is NaN or infinite; .*gradient.* layer 'before'"):
        watch.after_step({"loss": 0.7}, epoch=0, step=0)


@pytest.fixture(scope="module")
def searched(digits):
    search = mmx_tf.augment(pretrained(digits), bit_widths=(8, 4, 3))
    search.compile(optimizer="sgd", loss=LOSS)
    search(next(iter(digits.train(batch_size=32, seed=0)))[0], branch=0)
    return search


def watched(search, digits, **kwargs):
    batches = digits.train(batch_size=32, seed=0)
    return Watch("select", TrainedSearch(search), batches=lambda e, s: batches, steps_per_epoch=4, **kwargs)


def test_a_step_size_at_its_floor_is_told_by_its_quantizer(searched, digits):
    watch = watched(searched, digits)
    steps = searched.quantizers["expand"].step_sizes
    kept = steps.numpy()
    watch.before_step()
    watch.after_step({"loss": 1.0}, epoch=0, step=0)
    steps.assign([kept[0], 1e-6, kept[2]])
    with pytest.raises(DivergenceError, match="epoch 1, step 2: the step size of expand_input_quantizer has"):
        watch.after_step({"loss": 1.0}, epoch=0, step=1)
    # One that was there before is no divergence.
    watched(searched, digits).after_step({"loss": 1.0}, epoch=0, step=1)
    assert collapsed_quantizers(searched.network) == ["expand_input_quantizer"]
    steps.assign(kept)


def test_an_alpha_that_is_saturated_is_an_error_in_the_first_steps_only(searched, digits):
    watch = watched(searched, digits, early=(4, 6))
    project = list(searched.quantizers).index("project")
    # softmax: 1 / (1 + 2 exp(-6)) = 0.9951, above 0.99; 1 / (1 + 2 exp(-5)) = 0.9867, below.
    alphas.set_row(searched, project, [0.0, 5.0, 0.0])
    watch.after_step({"loss": 1.0}, epoch=1, step=0)
    alphas.set_row(searched, project, [0.0, 6.0, 0.0])
    with pytest.raises(
        DivergenceError, match=r"alpha is saturated after 2 .* 4 bits with probability 0\.9951"
    ):
        watch.after_step({"loss": 1.0}, epoch=1, step=1)
    watch.after_step({"loss": 1.0}, epoch=1, step=2)
    alphas.set_rows(searched, np.zeros(3))


def test_one_candidate_of_activations_alone_saturates_nothing(digits):
    """Its softmax is 1 from the first step on, whatever alpha is: the weights' candidates alone can be."""
    search = mmx_tf.augment(pretrained(digits), bit_widths=(8,), weight_bits=(8, 4, 2))
    search.compile(optimizer="sgd", loss=LOSS)
    search(next(iter(digits.train(batch_size=32, seed=0)))[0], branch=0, weight_branch=0)
    watch = watched(search, digits, early=(0, 1))
    assert float(TrainedSearch(search).largest_probability()) == pytest.approx(1 / 3)
    watch.after_step({"loss": 1.0}, epoch=0, step=0)
    # softmax: 1 / (1 + 2 exp(-6)) = 0.9951.
    alphas.set_row(search, 1, [0.0, 0.0, 6.0], of_weights=True)
    said = r"branches: project_weight_quantizer has 2 bits with probability 0\.9951\.$"
    with pytest.raises(DivergenceError, match=said):
        watch.after_step({"loss": 1.0}, epoch=0, step=0)


# Whole runs.


@pytest.fixture(scope="module")
def float_network(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("float") / "float.keras"
    pretrained(digits).save(path)
    return path


def recipe(float_network, workdir, *more):
    lines = [
        f"--float_model={float_network}", "--image_size=16", "--batch_size=64", "--steps_per_epoch=3",
        "--train_epochs=1", "--eval_images=64", "--parity_images=8", f"--workdir={workdir}", *more,
    ]  # fmt: skip
    return Recipe.from_flagfile("\n".join(lines))


@pytest.mark.slow
def test_a_run_stops_by_name_and_keeps_its_last_good_checkpoint(float_network, tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(DivergenceError) as error:
        run(recipe(float_network, workdir, "--select_learning_rate=1e30"))
    message = str(error.value)
    assert message.startswith("select, epoch 1, step ") and "layer '" in message
    assert "--select_learning_rate" in message and "--on_divergence=recover" in message
    for path in (workdir / "checkpoints" / "select").glob("ckpt-*"):
        reader = tf.train.load_checkpoint(str(path / "variables"))
        for name in reader.get_variable_to_shape_map():
            value = np.asarray(reader.get_tensor(name))
            assert value.dtype.kind != "f" or np.isfinite(value).all(), (path, name)
    assert not (workdir / "bit_selection.json").exists()


@pytest.mark.slow
def test_a_run_recovers_at_half_the_learning_rate(float_network, tmp_path):
    """Adam's first step is the learning rate r, and two alphas then 2 r apart: 1 / (1 + exp(-2 r)) is above
    0.99 for r = 8 and 4, and 0.982 for 2."""
    flags = ["--alpha_learning_rate=8", "--on_divergence=recover", "--candidate_bits=8,4"]
    with logged() as lines:
        workdir = tmp_path / "run"
        metrics = run(recipe(float_network, workdir, *flags))
    said = [line for line in lines if "Going back to epoch 2, step 1" in line]
    assert len(said) == 2 and "alpha is saturated" in said[0]
    assert "with 0.5 times" in said[0] and "with 0.25 times" in said[1]
    assert metrics["code_disagreement"] == 0.0
    facts = json.loads((workdir / "checkpoints" / "select" / "ckpt-6" / "facts.json").read_text())
    assert len(facts["history"]["loss"]) == 2 and len(facts["steps"]["bops"]) == 6


@pytest.mark.slow
def test_a_run_that_cannot_be_recovered_stops(float_network, tmp_path):
    hopeless = recipe(float_network, tmp_path / "run", "--learning_rate=1e30", "--on_divergence=recover")
    with pytest.raises(DivergenceError, match="The same has happened after 3 recoveries"):
        run(hopeless)
    # A restart does not begin to count anew.
    with logged() as lines, pytest.raises(DivergenceError, match="The same has happened after 3 recoveries"):
        run(hopeless)
    assert not any("Going back" in line for line in lines)
