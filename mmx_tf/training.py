"""The three training phases of a run: float network, bit selection, weight training."""

import json
import sys

import tf_keras as keras
from absl import logging

from layers.activation_quantizer import ActivationQuantizer
from layers.lsq import STEP_SIZE_FLOOR
from mmx_tf.checkpoints import EpochCheckpoint
from mmx_tf.compute_dtype import convolutions_in
from mmx_tf.data import ImageData
from mmx_tf.float_model import gives_probabilities
from mmx_tf.folded_training import fold_for_training
from mmx_tf.recipe import Recipe
from mmx_tf.search import SearchModel
from mmx_tf.tracing import build_before_tracing, initialize_before_tracing
from mmx_tf.weight_training import cosine_schedule, sgd
from mmx_tf.workdir import Workdir

SEARCH_STEP_LOGS = ("bops", "loss", "search_loss", "regularizer", "alpha_entropy")


def train_float(workdir: Workdir, recipe: Recipe, data: ImageData, model: keras.Model) -> None:
    """Trains the built-in network from scratch for --float_epochs."""
    dataset, steps = _train_data(recipe, data)
    total = steps * recipe.float_epochs
    schedule = cosine_schedule(
        recipe.float_learning_rate, steps=total, warmup_steps=min(5 * steps, total // 5)
    )
    _compile(recipe, model, _sgd(recipe, model, schedule))
    _fit(workdir, recipe, "float", model, dataset, epochs=recipe.float_epochs)


def train_search(workdir: Workdir, recipe: Recipe, data: ImageData, search: SearchModel) -> None:
    """Runs the bit selection phase: --select_epochs epochs, the first of bit-meta steps alone."""
    dataset, steps = _train_data(recipe, data)
    search_steps = steps * (recipe.select_epochs - search.meta_epochs)
    search.compile(
        optimizer=sgd(
            search.meta_weights,
            recipe.select_learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        ),
        step_optimizer=keras.optimizers.SGD(recipe.step_learning_rate, momentum=recipe.momentum),
        # Hard BOPs oscillate round the target; a decaying rate lets the selection settle.
        alpha_optimizer=keras.optimizers.Adam(
            cosine_schedule(recipe.alpha_learning_rate, steps=search_steps)
        ),
        loss=_loss(search.network),
        metrics=["accuracy"],
        jit_compile=recipe.jit_compile,
    )

    def prepare():
        initialize_before_tracing(search, search.network, _train_data(recipe, data)[0], branch=0)

    options = {"epochs": recipe.select_epochs, "step_logs": SEARCH_STEP_LOGS}
    _fit(workdir, recipe, "select", search, dataset, prepare=prepare, **options)


def train_fixed(workdir: Workdir, recipe: Recipe, data: ImageData, fixed: keras.Model) -> None:
    """Fine-tunes weights and step sizes at the selected bits for --train_epochs.

    The last --folded_epochs of them are on the folded graph, with the same variables, optimizer and schedule.
    """
    dataset, steps = _train_data(recipe, data)
    schedule = cosine_schedule(
        recipe.learning_rate,
        steps=steps * recipe.train_epochs,
        warmup_steps=round(steps * recipe.warmup_epochs),
    )
    _compile(recipe, fixed, _sgd(recipe, fixed, schedule))
    evaluation = data.evaluation(batch_size=recipe.batch_size, limit=recipe.eval_images)
    epochs = recipe.train_epochs - recipe.folded_epochs

    def prepare():
        initialize_before_tracing(fixed, fixed, _train_data(recipe, data)[0])

    _fit(workdir, recipe, "train", fixed, dataset, epochs=epochs, prepare=prepare, validation_data=evaluation)
    if recipe.folded_epochs:
        folded_graph = fold_for_training(fixed, weight_storage=recipe.weight_storage)
        _compile(recipe, folded_graph, fixed.optimizer)
        options = {"epochs": recipe.train_epochs, "folded_graph": folded_graph}
        _fit(workdir, recipe, "train", fixed, dataset, validation_data=evaluation, **options)
    for name in collapsed_quantizers(fixed):
        logging.warning(
            "the step size of %s has collapsed to its floor, so that layer sees next to nothing; train again "
            "with a lower --learning_rate.",
            name,
        )


def collapsed_quantizers(network: keras.Model) -> list[str]:
    """Names of the activation quantizers whose step size has fallen to the floor."""
    return [
        layer.name
        for layer in network.layers
        if isinstance(layer, ActivationQuantizer) and float(layer.step_size) <= 10 * STEP_SIZE_FLOOR
    ]


def top1(model: keras.Model, evaluation) -> float:
    """Share of evaluation images whose largest output is the label's."""
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    for images, labels in evaluation:
        accuracy.update_state(labels, model.predict_on_batch(images))
    return float(accuracy.result())


def histories(workdir: Workdir) -> dict[str, dict[str, list[float]]]:
    """Curves of the finished phases, for the report: phase -> log name -> values."""
    curves = {}
    for phase in ("float", "select", "train"):
        files = sorted(workdir.path("checkpoints", phase).glob("curves-*.json"), key=_epochs_of)
        if files:
            document = json.loads(files[-1].read_text())
            steps = {name: values for name, values in document["steps"].items() if values}
            curves[phase] = steps or document["epochs"]
    return curves


def _epochs_of(path) -> int:
    return int(path.stem.split("-")[1])


def _train_data(recipe: Recipe, data: ImageData):
    """(one epoch of batches, its number of steps)."""
    steps = max(1, data.train_images // recipe.batch_size)
    dataset = data.train(batch_size=recipe.batch_size, seed=recipe.seed)
    if recipe.steps_per_epoch and recipe.steps_per_epoch < steps:
        return dataset.take(recipe.steps_per_epoch), recipe.steps_per_epoch
    return dataset, steps


def _sgd(recipe: Recipe, model, learning_rate):
    return sgd(
        model.trainable_variables,
        learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def _loss(model):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=not gives_probabilities(model))


def _compile(recipe: Recipe, model, optimizer):
    options = {"metrics": ["accuracy"], "jit_compile": recipe.jit_compile}
    model.compile(optimizer=optimizer, loss=_loss(model), **options)
    model.optimizer.build(model.trainable_variables)


def _fit(
    workdir: Workdir,
    recipe: Recipe,
    phase: str,
    model,
    dataset,
    *,
    epochs: int,
    step_logs=(),
    folded_graph=None,
    prepare=None,
    **kwargs,
):
    # A folded graph shares the model's variables and is fitted in its place; checkpoints are the model's.
    checkpoint = EpochCheckpoint(workdir.path("checkpoints", phase), model, step_logs=step_logs)
    done = checkpoint.restore()
    if done >= epochs:
        return
    place = " on the folded graph" if folded_graph else ""
    logging.info("%s: epochs %d to %d%s", phase, done + 1, epochs, place)
    fitted = folded_graph or model
    build_before_tracing(fitted, dataset)
    if prepare:
        # Reads a dataset of its own: each iteration over one changes the order of the next.
        prepare()
    board = keras.callbacks.TensorBoard(workdir.path("logs", phase), write_graph=False)
    with convolutions_in(recipe.compute_dtype, fitted):
        fitted.fit(
            dataset,
            epochs=epochs,
            initial_epoch=done,
            callbacks=[checkpoint, board, keras.callbacks.TerminateOnNaN()],
            # A progress bar on a terminal, a line per epoch in a log file.
            verbose=1 if sys.stdout.isatty() else 2,
            **kwargs,
        )
