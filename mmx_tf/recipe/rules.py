"""What a recipe's flags may be: the allowed sets, and the rules between flags.

Every refusal is a `RecipeError` of one paragraph that names the flag, the value, what is allowed and what to
do.
"""

import dataclasses
import os

from mmx_tf import devices
from mmx_tf.errors import RecipeError
from mmx_tf.formats.paths import format_of
from mmx_tf.formats.refused import FormatError
from mmx_tf.notation import short_bops
from mmx_tf.recipe import budget_rules
from mmx_tf.recipe.budget_rules import BudgetRuleError
from mmx_tf.recipe.fields import RecipeFields
from mmx_tf.recipe.texts import CANDIDATE_BITS, parse_candidate_bits, parse_weight_bits, refuse

IMAGENET_WEIGHTS = "imagenet"
FLOAT_TEACHER = "float"
NETWORK_FILES = "a .keras or .h5 file of Keras 2 (tf_keras) or Keras 3, or of a SavedModel folder of Keras 2"
NO_MASKS = (
    "A network with outputs for each pixel needs masks that are cropped and mirrored with their images, "
    "which this command does not do. Search, train and verify it in a notebook, with batches of your own "
    "(docs/guides/notebook.md)."
)
SEVERAL_OUTPUTS = (
    "A network of several outputs needs labels for each of them, and the datasets of this command give one "
    "for an image. Search, train and verify it in a notebook, with batches of your own "
    "(docs/guides/notebook.md), or give a network of one output."
)
SEVERAL_INPUTS = (
    "A network of several inputs needs an array for each of them, and the datasets of this command give one. "
    "Search, train and verify it in a notebook, with batches of your own (docs/guides/notebook.md)."
)
_WHY = {
    "model": " Your own network goes into --float_model.",
    "select_epochs": " Bit selection needs one epoch of meta training and at least one of search.",
}


def check(recipe: RecipeFields) -> None:
    """Check every field of `recipe` against its allowed set, then the fields against each other and the disk.

    Raises:
        RecipeError: the first rule that is broken.
    """
    for field in dataclasses.fields(recipe):
        allowed, value = field.metadata["allowed"], getattr(recipe, field.name)
        if allowed and not allowed.takes(value):
            text = ",".join(value) if isinstance(value, tuple) else value
            refuse(field.name, text, allowed.words, _WHY.get(field.name, ""))
    if not 0 <= recipe.folded_epochs <= recipe.train_epochs:
        allowed = f"0 to {recipe.train_epochs}, the number of --train_epochs"
        refuse("folded_epochs", recipe.folded_epochs, allowed, " They are the last of these epochs.")
    if recipe.batch_norm_images and recipe.folded_epochs:
        advice = " The folded graph is trained with the statistics that the file has."
        refuse("batch_norm_images", recipe.batch_norm_images, "0 with --folded_epochs", advice)
    if recipe.optimizer == "adamw" and recipe.weight_decay_kind == "l2":
        advice = " Adam with L2 decay is --optimizer=adam."
        refuse("weight_decay_kind", "l2", "decoupled with --optimizer=adamw", advice)
    if recipe.select_optimizer == "adamw" and recipe.weight_decay_kind == "l2":
        advice = " Adam with L2 decay is --select_optimizer=adam."
        refuse("weight_decay_kind", "l2", "decoupled with --select_optimizer=adamw", advice)
    if recipe.distill_selection and not recipe.teacher:
        advice = " Name a teacher with --teacher=FILE.keras or --teacher=float."
        refuse("distill_selection", "true", "false without --teacher", advice)
    check_task(recipe, recipe.task)
    _check_device(recipe)
    _check_budget(recipe)
    _check_float_model(recipe)
    _check_teacher(recipe)
    _check_ablations(recipe)
    if recipe.strategy in ("mirrored", "multi_worker") and recipe.jit_compile:
        refuse("jit_compile", "true", f"false with --strategy={recipe.strategy}")
    if recipe.tpu and recipe.strategy != "tpu":
        refuse("tpu", recipe.tpu, f"empty with --strategy={recipe.strategy}")
    if not recipe.workdir:
        refuse("workdir", "", "any folder, new or of the same run", " An example: --workdir=runs/first.")


def check_task(recipe: RecipeFields, task: str) -> None:
    """Check that a recipe's flags fit a task, one of `choices.TASKS`, given or told; "" fits all.

    Raises:
        RecipeError: the first flag that does not.
    """
    if task == "segmentation":
        raise RecipeError(f"--task=segmentation cannot be trained here. {NO_MASKS}")
    if task != "regression":
        return
    for name, allowed, why in (
        ("output_type", ("int8", "float32"), " A regression names no class."),
        ("label_smoothing", (0.0,), " It spreads labels over classes, which a regression does not have."),
        ("teacher", ("",), " Distillation compares probabilities, which a regression does not have."),
    ):
        if getattr(recipe, name) not in allowed:
            words = " or ".join(str(value) or "empty" for value in allowed)
            refuse(name, getattr(recipe, name), f"{words} with --task=regression", why)


def check_classes(recipe: RecipeFields, *, num_classes: int, dataset: str) -> None:
    """Check the recipe against the dataset that was loaded.

    Raises:
        RecipeError: --num_classes is set and differs from the dataset's.
    """
    if recipe.num_classes not in (0, num_classes):
        raise RecipeError(
            f"--num_classes={recipe.num_classes}, but the dataset {dataset} has {num_classes} classes. Leave "
            f"--num_classes out (0 takes the dataset's) or name the dataset that you mean with --dataset."
        )


def _check_budget(recipe: RecipeFields) -> None:
    bits, targets, exported = recipe.candidate_bits, recipe.target_bops, recipe.export_target
    parse_candidate_bits(",".join(map(str, bits)))
    if len(bits) == 1 and recipe.selection != "uniform" and not recipe.searches_weights:
        raise RecipeError(
            f"--candidate_bits={bits[0]} leaves nothing to choose: give two or more, such "
            "as 8,4,3, or --selection=uniform with the same --uniform_bits to train at one bit-width."
        )
    weight_bits = recipe.weight_bits if recipe.searches_weights else (recipe.weight_bits,)
    parse_weight_bits(",".join(map(str, weight_bits)))
    asked = budget_rules.of_recipe(recipe)
    if not asked.given:
        raise RecipeError(budget_rules.missing())
    # With one bit-width everywhere its own BOPs are the budget.
    limits = CANDIDATE_BITS if recipe.selection == "uniform" else bits
    try:
        asked.check()
        asked.check_weight_bits(weight_bits)
        asked.check_candidates(limits)
    except BudgetRuleError as error:
        raise RecipeError(str(error)) from None
    for kind in asked.given:
        kind.check_flags(recipe)
    if exported and exported not in targets:
        allowed = (
            f"empty (each target), or one of {', '.join(map(short_bops, targets))}" if targets else "empty"
        )
        refuse("export_target", short_bops(exported), allowed, " It is one of the --target_bops.")


def _check_device(recipe: RecipeFields) -> None:
    """Refuses flags that cannot work on the device."""
    device = devices.named(recipe.device)
    for name, allowed in device.takes.items():
        if getattr(recipe, name) not in allowed:
            words = f"{' or '.join(one or 'empty' for one in allowed)} with --device={device.name}"
            refuse(name, getattr(recipe, name), words, f" {device.why[name]}")
    for name in device.refuses:
        if getattr(recipe, name):
            refuse(name, getattr(recipe, name), f"empty with --device={device.name}", f" {device.why[name]}")
    given = [name for name in device.measures if getattr(recipe, name)]
    if given and len(recipe.target_bops) > 1:
        targets = ",".join(map(short_bops, recipe.target_bops))
        refuse("target_bops", targets, f"one number, or empty, with --{given[0]} and --device={device.name}")


def check_tool(recipe: RecipeFields) -> None:
    """Refuses (`RecipeError`) a device whose tool is not installed."""
    try:
        devices.named(recipe.device).check()
    except ValueError as error:
        raise RecipeError(f"--device={recipe.device}: {error}") from error


def _check_float_model(recipe: RecipeFields) -> None:
    path = recipe.float_model
    if not path and not recipe.float_epochs:
        raise RecipeError(
            "There is no float network to start from: give a trained one with --float_model=FILE.keras (or "
            f"--float_model={IMAGENET_WEIGHTS} for Keras's ImageNet weights of --model={recipe.model}), or "
            "let the built-in network be trained first with --float_epochs=N."
        )
    if path and path != IMAGENET_WEIGHTS:
        _check_network_file(
            "float_model",
            path,
            f"'{IMAGENET_WEIGHTS}' for Keras's ImageNet weights of --model={recipe.model}",
        )


def _check_teacher(recipe: RecipeFields) -> None:
    path = recipe.teacher
    if path and path != FLOAT_TEACHER:
        _check_network_file("teacher", path, f"'{FLOAT_TEACHER}' for the float network itself")
    for name in ("distillation_weight", "distillation_temperature"):
        value = getattr(recipe, name)
        if not path and value != type(recipe).__dataclass_fields__[name].default:
            raise RecipeError(
                f"--{name}={value} does nothing without a teacher. Name one with --teacher=FILE.keras or "
                f"--teacher={FLOAT_TEACHER}, or leave --{name} out."
            )


def _check_network_file(name: str, path: str, other: str) -> None:
    """Refuses a path with nothing there, or of another format; the rest is told when it is read."""
    try:
        format_of(path)
    except FileNotFoundError as error:
        raise RecipeError(
            f"--{name}={path} is neither a file nor a folder; give the path of {NETWORK_FILES}, or {other}."
        ) from error
    except FormatError as error:
        raise RecipeError(f"--{name}={path} cannot be loaded: {error}") from error


def _check_ablations(recipe: RecipeFields) -> None:
    bits, path = recipe.uniform_bits, recipe.bit_selection
    if recipe.selection == "uniform" and recipe.searches_weights:
        candidates = ",".join(map(str, recipe.weight_bits))
        refuse("weight_bits", candidates, "one number with --selection=uniform")
    if recipe.selection == "uniform" and bits not in recipe.candidate_bits:
        allowed = f"{', '.join(map(str, recipe.candidate_bits))}, the --candidate_bits"
        refuse("uniform_bits", bits, allowed, " They are trained together, whichever is then taken.")
    if recipe.selection != "uniform" and bits:
        refuse("uniform_bits", bits, "0 without --selection=uniform")
    if path and recipe.selection != "search":
        refuse("selection", recipe.selection, "search with --bit_selection, which is a selection already")
    if path and not os.path.isfile(path):
        raise RecipeError(f"--bit_selection={path} is not a file; give the bit_selection.json of a run.")
    why = (
        f" Here {'a file' if path else '--selection=' + recipe.selection} has the bits: nothing is searched."
    )
    if not recipe.searches and not recipe.meta_training:
        refuse("meta_training", "false", "true", why)
    if not recipe.searches and recipe.train_weights_in_search:
        refuse("train_weights_in_search", "true", "false", why)
    if len(recipe.target_bops) > 1:
        _check_plain_search(recipe, "several --target_bops")
    for kind in budget_rules.of_recipe(recipe).given:
        if not kind.in_bops:
            _check_plain_search(recipe, f"--{kind.name}")
    if not recipe.meta_training and recipe.batch_norm_update != "mean":
        refuse("batch_norm_update", recipe.batch_norm_update, "mean without --meta_training")


def _check_plain_search(recipe: RecipeFields, budget: str) -> None:
    """Selections that are not searched, and searches that train weights, know one budget in BOPs alone."""
    for name, allowed in (
        ("selection", "search"),
        ("bit_selection", ""),
        ("meta_training", True),
        ("train_weights_in_search", False),
    ):
        value = getattr(recipe, name)
        if value != allowed:
            refuse(name, str(value).lower(), f"{str(allowed).lower() or 'no file'} with {budget}")
