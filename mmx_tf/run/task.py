"""What the network of a run gives, and what follows: its loss, its metrics, how it is judged.

    recipe, data = heads.settled(recipe, model, data)      # recipe.task is told
    model.compile(loss=heads.loss(recipe.told_task, model), metrics=heads.metrics(recipe.told_task, model))
    heads.judged(recipe.told_task, model, evaluation)      # {"binary_accuracy": 0.97, "auc": 0.99}

The tasks and how they are told are in `export.comparing.heads`.
"""

import dataclasses

import tf_keras as keras

from mmx_tf.export.comparing.heads import SIGMOIDS, Head, labels_of, told
from mmx_tf.export.comparing.quality import Quality
from mmx_tf.fitting.losses import ProbabilityCrossentropy, classification_loss
from mmx_tf.folding.carriers import is_sigmoid, is_softmax, last_activation
from mmx_tf.network import graph
from mmx_tf.recipe.recipe import Recipe, RecipeError
from mmx_tf.recipe.rules import NO_MASKS, check_task

_OPERATORS = {"nn.softmax": "softmax", "math.sigmoid": "sigmoid", "nn.sigmoid": "sigmoid"}
_FUNCTIONS = {
    keras.activations.softmax: "softmax",
    keras.activations.sigmoid: "sigmoid",
    keras.activations.hard_sigmoid: "hard_sigmoid",
}


def activation_of(model: keras.Model) -> str | None:
    """What a float, search or fixed network ends with: "softmax", "sigmoid", "hard_sigmoid" or None."""
    output = model.outputs[0]
    layer = output.node.layer
    if graph.is_network(layer):
        return activation_of(layer)
    if is_softmax(layer) or is_sigmoid(layer):
        return "softmax" if is_softmax(layer) else "sigmoid"
    if type(layer).__name__ == "TFOpLambda":
        return _OPERATORS.get(layer.get_config()["function"])
    return _FUNCTIONS.get(getattr(layer, "activation", None)) or last_activation(output)


def head_of(model: keras.Model, name: str) -> Head:
    """The head of a network that messages call `name`."""
    return Head(name, tuple(model.output_shape[1:]), activation_of(model))


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
    return dataclasses.replace(recipe, task="" if task == "classification" else task), data.for_task(task)


def task_of(recipe: Recipe, model: keras.Model, name: str, data) -> str:
    """The task of a network on a dataset; `name` is the network's in messages.

    Raises:
      RecipeError: if they do not fit, or nothing tells the task.
    """
    head = head_of(model, name)
    if len(head.shape) == 3:
        raise RecipeError(
            f"{name} is not an image classifier: its output shape is {model.output_shape}. {NO_MASKS}"
        )
    dataset = f"the dataset {data.name}"
    classes, size = data.num_classes, data.labels.size
    if len(head.shape) != 1:
        raise RecipeError(
            f"{name} is not an image classifier: its output shape is {model.output_shape}; one output of "
            "shape (None, classes) is needed."
        )
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
                f"{name} has {head.shape[0]} classes, but the dataset {data.name} has "
                f"{classes}. Give the dataset that the network was trained on with --dataset, or "
                "another network."
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
        )
    return task


def loss(task: str, model: keras.Model, *, label_smoothing: float = 0.0) -> keras.losses.Loss:
    """The loss with which a network learns a task."""
    if task == "regression":
        return keras.losses.MeanSquaredError()
    from_logits = gives_logits(model)
    if task == "classification":
        return classification_loss(from_logits=from_logits, label_smoothing=label_smoothing)
    if from_logits:
        return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=label_smoothing)
    return ProbabilityCrossentropy(label_smoothing)


def metrics(task: str, model: keras.Model) -> list:
    """Keras's metrics of a task, as `compile` takes them."""
    if task == "classification":
        return ["accuracy"]
    if task == "regression":
        return [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")]
    return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0 if gives_logits(model) else 0.5)]


def judged(task: str, model: keras.Model, evaluation) -> dict[str, float | None]:
    """The metrics of a task (`export.comparing.quality`) of a network on evaluation batches."""
    head, quality = head_of(model, model.name), Quality(task, from_logits=gives_logits(model))
    for images, labels in evaluation:
        quality.add(model.predict_on_batch(images), labels_of(task, head, labels))
    return quality.result()


def gives_logits(model: keras.Model) -> bool:
    """Whether outputs are logits, or numbers, and no probabilities."""
    return activation_of(model) is None
