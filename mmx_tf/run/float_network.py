"""The float network a run starts from (a file, Keras's ImageNet weights, or one trained here); a teacher."""

import pathlib

import tf_keras as keras
from absl import logging

from mmx_tf import models
from mmx_tf.data.dataset import ImageData
from mmx_tf.data.examples import Examples
from mmx_tf.errors import RecipeError
from mmx_tf.files.loading import load_model
from mmx_tf.folding.pixels import takes_bytes
from mmx_tf.formats.refused import FormatError
from mmx_tf.network import canonical, graph
from mmx_tf.network.heads import gives_logits
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.recipe.rules import FLOAT_TEACHER, IMAGENET_WEIGHTS, SEVERAL_INPUTS, SEVERAL_OUTPUTS
from mmx_tf.run.task import task_of
from mmx_tf.workdir import results

MAX_REASON = 400


def load_or_build(recipe: Recipe, data: Examples) -> tuple[keras.Model, bool]:
    """The float network of a recipe, checked against the dataset.

    Returns:
      The network, and whether it is trained already.

    Raises:
      RecipeError: if the file cannot be read, is no image classifier, or does not fit the dataset.
    """
    if recipe.float_model and recipe.float_model != IMAGENET_WEIGHTS:
        name = f"--float_model={recipe.float_model}"
        model = _load(recipe.float_model, name)
        try:
            network = canonical.canonicalize(model)
        except ValueError as error:
            raise RecipeError(f"{name} cannot be used: {error}") from error
        _check(recipe, model, name, data)
        _warn_of_scaled_twice(recipe, network, name, data)
        if data.source.held_out:
            logging.warning(
                "%s is judged on %d examples that are taken out of %s. If it was trained on all of them, it "
                "has seen these, and its accuracy looks better than it is on new ones. Keep examples for "
                "evaluation apart: in a folder test beside train, or as x_test and y_test.",
                name, data.eval_images, data.name,
            )  # fmt: skip
        return model, True
    _check_built_in(recipe, data)
    outputs = 1 if recipe.task == "binary" else data.num_classes or data.labels.size
    model = models.build(
        recipe.model,
        input_shape=(*data.image_shape, 1)[:3],
        num_classes=outputs,
        width=recipe.width,
        classifier=bool(data.num_classes) and recipe.task != "binary",
        variant=recipe.network_variant,
    )
    if recipe.float_model == IMAGENET_WEIGHTS:
        models.load_imagenet_weights(recipe.model, model)
        return model, True
    return model, False


def load_trained(recipe: Recipe, data: Examples) -> keras.Model:
    """The trained float network: the recipe's, or the one that the workdir's run has trained.

    Raises:
      RecipeError: as `load_or_build`, and without a network.
    """
    model, trained = load_or_build(recipe, data)
    if trained:
        return model
    return load_model(results.trained_float(pathlib.Path(recipe.workdir)))


def load_teacher(recipe: Recipe, data: Examples) -> keras.Model | None:
    """The network of a file as --teacher; None where there is no teacher, or it is the float network.

    Raises:
      RecipeError: as `load_or_build`.
    """
    if recipe.teacher in ("", FLOAT_TEACHER):
        return None
    name = f"--teacher={recipe.teacher}"
    teacher = _load(recipe.teacher, name)
    if len(teacher.inputs or ()) != 1 or not teacher.outputs:
        raise RecipeError(f"{name} is not a network of one input and one output.")
    _check(recipe, teacher, name, data)
    if not Examples.fits(data, teacher.input_shape[1:]):
        raise RecipeError(
            f"{name} takes inputs of shape {teacher.input_shape[1:]}, and the network {data.image_shape}: "
            "both have to take the same."
        )
    return teacher


def gives_probabilities(model: keras.Model) -> bool:
    """Whether a network ends with a softmax or a sigmoid; the built-in ones give logits."""
    return not gives_logits(model)


def _load(path: str, name: str) -> keras.Model:
    try:
        return load_model(path)
    except ValueError as error:
        if isinstance(error, canonical.UnsupportedLayerError | FormatError):
            reason = str(error)
        elif "Lambda layer" in str(error):
            reason = (
                "it holds a Lambda layer, whose Python code is never run from a file. Rebuild the network "
                "with ordinary layers."
            )
        else:
            reason = " ".join(str(error).split())
            reason = reason if len(reason) <= MAX_REASON else reason[:MAX_REASON] + " ..."
        raise RecipeError(f"{name} cannot be loaded: {reason}") from error


def _check(recipe: Recipe, model, name: str, data: Examples) -> None:
    if len(model.inputs) != 1:
        raise RecipeError(
            f"{name} takes the inputs {', '.join(map(repr, graph.input_names(model)))}. {SEVERAL_INPUTS}"
        )
    if len(model.outputs) != 1:
        raise RecipeError(
            f"{name} is not an image classifier: its output shape is {model.output_shape}. {SEVERAL_OUTPUTS}"
        )
    task_of(recipe, model, name, data)
    if not data.fits(model.input_shape[1:]):
        raise RecipeError(_misfit(name, tuple(model.input_shape[1:]), data))
    for layer, weight, broken in graph.non_finite(model):
        raise RecipeError(
            f"{name} cannot be used: {broken} of the {weight.shape.num_elements()} numbers of {weight.name} "
            f"(layer {layer.name!r}) are NaN or infinite; all must be finite. Its training has "
            "diverged: give a network from before that."
        )


def _warn_of_scaled_twice(recipe: Recipe, network, name: str, data: Examples) -> None:
    """Warns where a network scales pixels of 0 to 255 itself and is given scaled ones by default."""
    layer = data.pixel_scaling is not None and not recipe.pixel_scaling and takes_bytes(network)
    if layer:
        logging.warning(
            "%s scales pixels of 0 to 255 itself (layer %r), but is given pixel / 127.5 - 1, so that they "
            "are scaled twice. Give --pixel_scaling=1,0, unless it was trained on such images.",
            name, layer,
        )  # fmt: skip


def _misfit(name: str, taken: tuple, data: Examples) -> str:
    """Says that a network takes other shapes than a dataset gives, and what to do."""
    given = data.image_shape
    if not isinstance(data, ImageData):
        advice = "Give arrays of the network's shape."
        if taken == given[1:]:
            advice = "Give single examples: dataset.unbatch()."
        return f"{name} takes inputs of shape {taken}, but the dataset {data.name} gives {given}. {advice}"
    if len(taken) != 3:
        return (
            f"{name} takes inputs of shape {taken}, and --dataset={data.name} gives images (height, width, "
            "channels). Give the inputs as arrays, --dataset=npz:FILE.npz, or from a function of your own, "
            "--dataset=module:NAME:FUNCTION."
        )
    height, width, channels = taken
    if height != width:
        advice = (
            "The images of this dataset are square: give a network whose input is, or others with "
            "--dataset=npz:FILE.npz."
        )
    elif channels != given[2]:
        advice = f"Give a network for images of {given[2]} channel(s), or another --dataset."
    else:
        advice = f"Set --image_size={height}."
    return f"{name} takes images of shape {taken}, but the dataset {data.name} gives {given}. {advice}"


def _check_built_in(recipe: Recipe, data: Examples) -> None:
    """Refuses (RecipeError) arrays that a built-in network cannot take."""
    shape, labels = data.image_shape, data.labels.shape
    if isinstance(data, ImageData) or (len(shape) in (2, 3) and min(shape[:2]) > 1 and len(labels) < 2):
        return
    what = f"labels of shape {labels}" if len(labels) > 1 else f"examples of shape {shape}"
    raise RecipeError(
        f"--model={recipe.model} is a network on images (height, width, channels) with one vector of "
        f"outputs, but the dataset {data.name} has {what}. Give a trained network with "
        "--float_model=FILE.keras."
    )
