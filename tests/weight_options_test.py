"""Options of weight training: optimizers, a teacher, averages; resumed, on the folded graph, under XLA."""

import json
import math
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import pretrained

import mmx_tf
from mmx_tf.choices import OPTIMIZERS
from mmx_tf.errors import DivergenceError, RecipeError
from mmx_tf.fitting.divergence import Watch
from mmx_tf.fitting.trained import Trained
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run import phases
from mmx_tf.run.pipeline import run
from mmx_tf.training import task
from mmx_tf.training.distillation import DistilledModel
from mmx_tf.training.optimizers import weight_optimizer
from mmx_tf.workdir import checkpoints
from mmx_tf.workdir.workdir import Workdir

pytestmark = pytest.mark.broad

PLAIN = {"momentum": 0.0, "nesterov": False}
ALL = (
    "--optimizer=adamw", "--learning_rate=0.002", "--ema_decay=0.7", "--label_smoothing=0.1",
    "--teacher=float", "--distillation_weight=0.4", "--distillation_temperature=2", "--folded_epochs=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def float_network(digits):
    return pretrained(digits)


STILL = ("--ema_decay=0.99999999", "--train_epochs=1")
"""Options of a phase whose averages, which it ends with, stay where it began."""


def recipe_of(workdir, *more) -> Recipe:
    lines = [
        "--float_epochs=1", "--image_size=16", "--batch_size=32", "--steps_per_epoch=3", "--train_epochs=2",
        "--eval_images=64", "--checkpoint_minutes=1e-9", "--keep_checkpoints=100", f"--workdir={workdir}",
    ]  # fmt: skip
    recipe = Recipe.from_flagfile("\n".join([*lines, *more]))
    recipe.validate()
    return recipe


def trained(float_network, digits, workdir, *flags):
    keras.utils.set_random_seed(5)
    search = mmx_tf.augment(float_network, target_average_bits=4.0)
    search(next(iter(digits.train(batch_size=32, seed=0)))[0], branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([1] * len(search.quantizers)))
    recipe = recipe_of(workdir, *flags)
    teacher = float_network if recipe.teacher else None
    phases.train_fixed(Workdir(recipe), recipe, digits, fixed, teacher=teacher)
    return fixed


# One step by hand.


@pytest.mark.parametrize(
    ("name", "weight", "bias"),
    [
        # SGD: 2 - 0.1 * 0.5 * 2 (decay) - 0.1 * 1; the bias has no decay.
        ("sgd", 1.8, 0.9),
        # The first step of Adam is the learning rate, whatever the gradient.
        ("adam", 1.9, 0.9),
        ("adamw", 1.8, 0.9),
    ],
)
def test_one_step_of_every_optimizer(name, weight, bias):
    layer = keras.layers.Dense(1)
    layer.build((None, 1))
    layer.set_weights([np.float32([[2.0]]), np.float32([1.0])])
    optimizer = weight_optimizer(name, layer.trainable_variables, 0.1, weight_decay=0.5, **PLAIN)
    optimizer.build(layer.trainable_variables)
    optimizer.apply_gradients([(tf.ones_like(v), v) for v in layer.trainable_variables])
    assert layer.kernel.numpy().item() == pytest.approx(weight, abs=1e-5)
    assert layer.bias.numpy().item() == pytest.approx(bias, abs=1e-5)


def test_other_optimizers_are_refused():
    assert OPTIMIZERS == ("sgd", "adam", "adamw")
    with pytest.raises(ValueError, match="'lion': one of sgd, adam, adamw"):
        weight_optimizer("lion", [], 0.1, **PLAIN)


def linear(kernel, activation=None):
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(2, use_bias=False, activation=activation)]
    )
    model.set_weights([np.float32([kernel])])
    return keras.Model(model.inputs, model.outputs)


@pytest.mark.parametrize(
    "teacher", [([0.0, math.log(3)], None), ([0.0, math.log(3)], "softmax")], ids=["logits", "probabilities"]
)
def test_a_step_with_a_teacher_by_hand(teacher):
    """q = (1/2, 1/2), p = (1/4, 3/4), label 0: 0.4 (q - (1, 0)) + 0.6 (q - p) = (-0.05, 0.05)."""
    student, teacher = linear([0.0, 0.0]), linear(*teacher)
    distilled = DistilledModel(student, teacher=teacher, weight=0.6, temperature=1.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distilled.compile(keras.optimizers.SGD(1.0), loss, metrics=["accuracy"])
    assert [id(v) for v in distilled.trainable_variables] == [id(v) for v in student.trainable_variables]
    logs = distilled.train_on_batch(np.ones((1, 1)), np.zeros(1), return_dict=True)
    np.testing.assert_allclose(student.get_weights()[0], [[0.05, -0.05]], atol=1e-6)
    np.testing.assert_allclose(teacher.get_weights()[0], [[0.0, math.log(3)]], rtol=1e-6)
    assert set(logs) == {"loss", "accuracy", "distillation_loss"}
    assert logs["loss"] == pytest.approx(math.log(2), rel=1e-5)
    assert logs["distillation_loss"] == pytest.approx(0.130812, rel=1e-5)
    assert set(distilled.evaluate(np.ones((1, 1)), np.zeros(1), verbose=0, return_dict=True)) == {
        "loss", "accuracy",
    }  # fmt: skip
    with pytest.raises(NotImplementedError, match="save the student"):
        distilled.get_config()


# Whole phases on digits.


@pytest.fixture(scope="module")
def undisturbed(float_network, digits, tmp_path_factory):
    """(workdir, network) of a phase with every option, the last epoch on the folded graph."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    return workdir, trained(float_network, digits, workdir, *ALL)


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3, 5])
def test_a_phase_with_every_option_is_resumed(float_network, digits, undisturbed, tmp_path, number):
    """2: in the first epoch, 3: at its end, 5: on the folded graph."""
    expected = undisturbed[1].get_weights()
    shutil.copytree(undisturbed[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "run.flags").write_text(recipe_of(tmp_path, *ALL).to_flagfile())
    folder = tmp_path / "checkpoints" / "train"
    assert checkpoints.numbers(folder) == list(range(7))
    for other in range(number + 1, 7):
        (folder / f"ckpt-{other}").rename(folder / f"no-{other}")
    resumed = trained(float_network, digits, tmp_path, *ALL)
    for found, value in zip(resumed.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_what_is_evaluated_are_the_averages(float_network, digits, undisturbed):
    workdir, fixed = undisturbed
    facts = checkpoints.newest_facts(workdir / "checkpoints" / "train")
    assert {"loss", "accuracy", "distillation_loss", "val_loss", "val_accuracy"} == set(facts["history"])
    on_folded_graph = mmx_tf.fold_for_training(fixed)
    loss = task.loss("classification", fixed, label_smoothing=0.1)
    on_folded_graph.compile(loss=loss, metrics=["accuracy"])
    logs = on_folded_graph.evaluate(digits.evaluation(batch_size=32, limit=64), verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(facts["history"]["val_loss"][-1], rel=1e-4)


@pytest.mark.slow
def test_averages_begin_at_the_network_that_is_trained(float_network, digits, tmp_path):
    """A decay of almost 1 leaves the start in place: step sizes that were set by the first batch, too."""
    still = trained(float_network, digits, tmp_path / "still", *STILL)
    moved = trained(float_network, digits, tmp_path / "moved", "--train_epochs=1")
    steps = [v for v in still.variables if "step_size" in v.name]
    assert len(steps) > 8 and not any(np.any(v.numpy() == 1.0) for v in steps)
    assert update_of(still, moved).max() > 1e-3


def update_of(network, start):
    """How far the trained variables of a network are from another one's, in one vector."""
    pairs = zip(network.trainable_variables, start.trainable_variables, strict=True)
    return np.concatenate([np.ravel(ours.numpy() - theirs.numpy()) for ours, theirs in pairs])


@pytest.fixture(scope="module")
def start(float_network, digits, tmp_path_factory):
    """The network that a phase starts with, its step sizes set."""
    return trained(float_network, digits, tmp_path_factory.mktemp("start"), *STILL)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_steps_compiled_by_xla_give_the_same_numbers(float_network, digits, tmp_path, start, optimizer):
    flags = [f"--optimizer={optimizer}", *ALL[1:], "--train_epochs=1", "--folded_epochs=0"]
    plain = trained(float_network, digits, tmp_path / "plain", *flags)
    compiled = trained(float_network, digits, tmp_path / "compiled", *flags, "--jit_compile")
    # Adam makes whole steps of gradients next to 0, whose signs differ.
    ours, theirs = update_of(compiled, start), update_of(plain, start)
    assert np.dot(ours, theirs) > 0.95 * np.linalg.norm(ours) * np.linalg.norm(theirs) > 0
    losses = [
        checkpoints.newest_facts(tmp_path / name / "checkpoints" / "train")["history"]
        for name in ("plain", "compiled")
    ]
    for name in ("loss", "distillation_loss"):
        assert losses[1][name] == pytest.approx(losses[0][name], rel=0.05)


# The command line.


@pytest.mark.slow
def test_a_run_with_a_teacher_from_a_file(float_network, tmp_path):
    path = tmp_path / "float.keras"
    float_network.save(path)
    recipe = recipe_of(
        tmp_path / "run", *ALL, f"--float_model={path}", "--float_epochs=0", f"--teacher={path}"
    )
    metrics = run(recipe)
    assert metrics["code_disagreement"] == 0.0 and metrics["folded_top1"] == metrics["tflite_top1"] > 0.3
    facts = checkpoints.newest_facts(tmp_path / "run" / "checkpoints" / "train")
    assert len(facts["history"]["distillation_loss"]) == 2
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == metrics
    page = (tmp_path / "run" / "report.html").read_text()
    assert "ema_decay" in page


BAD_TEACHERS = {
    "classes": (lambda: small(7), "has 7 classes"),
    "size": (lambda: small(10, size=8), "takes images of shape (8, 8, 1)"),
    "no image": (
        lambda: keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)]),
        "Give the inputs as arrays",
    ),
    "not finite": (lambda: small(10, value=np.nan), "are NaN or infinite"),
}


def small(classes, size=16, value=0.1):
    layers = [keras.Input((size, size, 1)), keras.layers.Flatten(), keras.layers.Dense(classes)]
    model = keras.Sequential(layers)
    model.set_weights([np.full(weights.shape, value) for weights in model.get_weights()])
    return model


@pytest.mark.parametrize("case", BAD_TEACHERS)
def test_a_teacher_that_cannot_teach_is_refused_before_anything_is_written(tmp_path, case):
    make, said = BAD_TEACHERS[case]
    make().save(tmp_path / "teacher.keras")
    recipe = recipe_of(tmp_path / "run", f"--teacher={tmp_path / 'teacher.keras'}")
    with pytest.raises(RecipeError) as error:
        run(recipe)
    assert said in str(error.value) and "--teacher=" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_divergence_with_a_teacher_names_the_layer(float_network, digits, tmp_path):
    with pytest.raises(DivergenceError, match="train, epoch 1, step 1: .* logits_input_quantizer"):
        trained(float_network, digits, tmp_path, "--teacher=float", "--learning_rate=1e30")


def test_a_number_that_is_not_finite_is_traced_to_its_layer(float_network, digits, tmp_path):
    fixed = trained(float_network, digits, tmp_path, "--train_epochs=1")
    distilled = DistilledModel(fixed, teacher=float_network, weight=0.5, temperature=1.0)
    distilled.compile(loss=task.loss("classification", fixed))
    bias = next(v for v in fixed.trainable_variables if v.shape == (8,) and "bias" in v.name)
    bias.assign(bias * np.nan)

    def batches(epoch, first_step):
        return digits.train(batch_size=32, seed=0)

    watch = Watch("train", Trained(distilled), batches=batches, steps_per_epoch=3)
    watch.before_step()
    with pytest.raises(DivergenceError, match="not finite is that of layer '.*expand'"):
        watch.after_step({"loss": np.nan}, epoch=0, step=0)
