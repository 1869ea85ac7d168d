"""The float network a run starts from (a file, Keras's ImageNet weights, or one trained here); a teacher."""

import pathlib

import tf_keras as keras

from mmx_tf import models
from mmx_tf.data.dataset import ImageData
from mmx_tf.errors import RecipeError
from mmx_tf.files.loading import load_model
from mmx_tf.files.other_formats import FormatError
from mmx_tf.network import canonical, graph
from mmx_tf.network.heads import gives_logits
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.recipe.rules import FLOAT_TEACHER, IMAGENET_WEIGHTS, SEVERAL_OUTPUTS
from mmx_tf.run.task import task_of

MAX_REASON = 400


def load_or_build(recipe: Recipe, data: ImageData) -> tuple[keras.Model, bool]:
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
            canonical.canonicalize(model)
        except ValueError as error:
            raise RecipeError(f"{name} cannot be used: {error}") from error
        _check(recipe, model, name, data)
        return model, True
    outputs = 1 if recipe.task == "binary" else data.num_classes or data.labels.size
    model = models.build(
        recipe.model,
        input_shape=data.image_shape,
        num_classes=outputs,
        width=recipe.width,
        classifier=bool(data.num_classes) and recipe.task != "binary",
    )
    if recipe.float_model == IMAGENET_WEIGHTS:
        models.load_imagenet_weights(recipe.model, model)
        return model, True
    return model, False


def load_trained(recipe: Recipe, data: ImageData) -> keras.Model:
    """The trained float network: the recipe's, or the one that the workdir's run has trained.

    Raises:
      RecipeError: as `load_or_build`, and if there is none.
    """
    model, trained = load_or_build(recipe, data)
    if trained:
        return model
    path = pathlib.Path(recipe.workdir, "checkpoints", "float.keras")
    if not path.exists():
        raise RecipeError(
            f"--workdir={recipe.workdir} has no trained float network: {path.name} is not in its "
            "checkpoints. Give one with --float_model=FILE.keras, or let a run of `python -m mmx_tf.train` "
            "train it."
        )
    return load_model(path)


def load_teacher(recipe: Recipe, data: ImageData) -> keras.Model | None:
    """The network of a file as --teacher; None where there is no teacher, or it is the float network.

    Raises:
      RecipeError: as `load_or_build`.
    """
    if recipe.teacher in ("", FLOAT_TEACHER):
        return None
    name = f"--teacher={recipe.teacher}"
    teacher = _load(recipe.teacher, name)
    if len(teacher.inputs or ()) != 1 or not teacher.outputs or len(teacher.input_shape) != 4:
        raise RecipeError(f"{name} is not a network of one image (height, width, channels).")
    _check(recipe, teacher, name, data)
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


def _check(recipe: Recipe, model, name: str, data: ImageData) -> None:
    if len(model.outputs) != 1:
        raise RecipeError(
            f"{name} is not an image classifier: its output shape is {model.output_shape}. {SEVERAL_OUTPUTS}"
        )
    task_of(recipe, model, name, data)
    if len(model.input_shape) != 4:
        raise RecipeError(
            f"{name} takes inputs of shape {model.input_shape}, and --dataset gives images (None, height, "
            "width, channels). Search, train and verify such a network in a notebook, with your own batches."
        )
    if any(
        ours not in (None, theirs)
        for ours, theirs in zip(model.input_shape[1:], data.image_shape, strict=True)
    ):
        height, width, channels = model.input_shape[1:]
        if height != width:
            advice = "Images are square here: give a network whose input is."
        elif channels != data.image_shape[2]:
            advice = f"Give a network for images of {data.image_shape[2]} channel(s), or another --dataset."
        else:
            advice = f"Set --image_size={height}."
        raise RecipeError(
            f"{name} takes images of shape {(height, width, channels)}, but the dataset {data.name} gives "
            f"{data.image_shape}. {advice}"
        )
    for layer, weight, broken in graph.non_finite(model):
        raise RecipeError(
            f"{name} cannot be used: {broken} of the {weight.shape.num_elements()} numbers of {weight.name} "
            f"(layer {layer.name!r}) are NaN or infinite; all must be finite. Its training has "
            "diverged: give a network from before that."
        )
