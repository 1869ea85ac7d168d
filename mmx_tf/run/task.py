"""The task of a run: what its network's outputs stand for on its dataset.

    recipe, data = settled(recipe, model, data)            # recipe.task is told

The tasks and how they are told are in `export.comparing.heads`.
"""

import dataclasses

import tf_keras as keras

from mmx_tf.errors import RecipeError
from mmx_tf.export.comparing.heads import SIGMOIDS, Head, labels_of, told
from mmx_tf.network.heads import head_of
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.recipe.rules import NO_MASKS, check_task


def settled(recipe: Recipe, model: keras.Model, data) -> tuple[Recipe, object]:
    """A recipe and its data with the task told.

    Args:
      recipe: its --task overrides.
      model: the float network.
      data: of the recipe.

    Returns:
      (recipe, data): a recipe without a task is one of a classification, as it always was.

    Raises:
      RecipeError: if network, data and flags do not fit each other.
    """
    name = f"--float_model={recipe.float_model}" if recipe.float_model else f"--model={recipe.model}"
    task = task_of(recipe, model, name, data)
    check_task(recipe, task)
    data = data.for_task(task).shaped(model.input_shape[1:])
    return dataclasses.replace(recipe, task="" if task == "classification" else task), data


def task_of(recipe: Recipe, model: keras.Model, name: str, data) -> str:
    """The task of a network on a dataset; `name` is the network's in messages.

    Raises:
      RecipeError: if they do not fit, or nothing tells the task.
    """
    head = head_of(model, name)
    dataset = f"the dataset {data.name}"
    classes, size = data.num_classes, data.labels.size
    numbers = data.labels.shape and recipe.task in ("", "regression", "multi_label")
    if len(head.shape) == 3 and not numbers:
        raise RecipeError(
            f"{name} is not an image classifier: its output shape is {model.output_shape}. {NO_MASKS}"
        )
    if len(head.shape) != 1 and not numbers:
        raise RecipeError(
            f"{name} is not an image classifier: its output shape is {model.output_shape}; one output of "
            "shape (None, classes) is needed."
        )
    if data.reconstructs:
        return _reconstruction(recipe, head, data)
    if classes and recipe.task in ("", "classification", "binary"):
        binary = recipe.task == "binary" or head.shape == (1,)
        if binary and (head.shape != (1,) or classes != 2 or recipe.task == "classification"):
            raise RecipeError(
                f"{name} has outputs of shape {model.output_shape} and {dataset} {classes} classes: a "
                "binary network has one output for two classes, any other one output for each class. Give "
                "the dataset that the network was trained on with --dataset, another network or --task."
            )
        if not binary and head.shape[0] != classes:
            raise RecipeError(
                f"{name} has {head.shape[0]} classes, but the dataset {data.name} has {classes}. Give the "
                "dataset that the network was trained on with --dataset, or another network."
            )
        if not binary and head.activation in SIGMOIDS:
            raise RecipeError(
                f"{name} ends with {head.shape[0]} {head.activation}s, which decide on each label of an "
                f"image for itself, but {dataset} has one class for each image. Give a dataset whose labels "
                "are vectors of 0 and 1, or a network that ends with a softmax or with logits."
            )
        return "binary" if binary else "classification"
    try:
        task = told(head, data.first_labels(count=256), recipe.task or None)
        labels_of(task, head, data.first_labels(count=256))
    except ValueError as error:
        # In the words of the command line.
        reason = str(error).replace("eval_ds gives", f"{dataset} gives").replace("task='", "--task='")
        raise RecipeError(reason.replace("'", "")) from error
    if classes or task not in ("multi_label", "regression"):
        found = f"{classes} classes" if classes else f"{size} number(s) for each image"
        raise RecipeError(
            f"{name} as --task={task} does not fit {dataset}, whose labels are {found}: classes are for "
            "classification and binary, vectors of numbers for multi_label and regression."
            + (f" If they are classes, say --task={task}." if size == 1 and not recipe.task else "")
        )
    if data.labels.shape != head.shape:
        raise RecipeError(
            f"{name} has outputs of shape {head.shape}, but the labels of {dataset} have the shape "
            f"{data.labels.shape}: they must be the same."
        )
    return task


def _reconstruction(recipe: Recipe, head: Head, data) -> str:
    """The task of a network whose labels are its inputs."""
    if recipe.task not in ("", "regression"):
        raise RecipeError(
            f"--task={recipe.task}, but the dataset {data.name} has no labels other than its examples: it is "
            "for autoencoders, whose task is regression."
        )
    if data.shaped(head.shape).image_shape != head.shape:
        raise RecipeError(
            f"{head.name} has outputs of shape {head.shape}, but the dataset {data.name} has no labels other "
            f"than its examples, of shape {data.image_shape}: an autoencoder gives that shape; for any other "
            "network add y."
        )
    return "regression"
