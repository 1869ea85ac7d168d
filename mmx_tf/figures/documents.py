"""Figures 5 and 7: what finished runs chose and reached, read from their workdirs.

accuracy_document([pathlib.Path("runs/search"), pathlib.Path("runs/uniform")])
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Sequence

import tf_keras as keras
from scipy.stats import spearmanr

from mmx_tf.budget import bops
from mmx_tf.errors import RecipeError
from mmx_tf.figures.hessian import classification_traces
from mmx_tf.metamix.selection import BitSelection, SelectionMismatchError
from mmx_tf.network import canonical
from mmx_tf.recipe import budget_rules
from mmx_tf.recipe.budget_rules import KINDS
from mmx_tf.recipe.recipe import EXPORT_FLAGS, FREE_FLAGS, Recipe
from mmx_tf.workdir import fingerprints, results
from mmx_tf.workdir.belonging import check_inputs, earlier_state

_COPIED = (
    "bops", "target_bops", "average_bits", "float_top1", "fixed_top1", "folded_top1", "tflite_top1",
)  # fmt: skip
_ALIKE = (
    *FREE_FLAGS, *EXPORT_FLAGS, *KINDS, "uniform_bits", "bit_selection", "cost_table", "seed", "data_dir",
    "eval_images", "task", "parity_images", "max_disagreement", "deterministic", "strategy", "jit_compile",
)  # fmt: skip
"""Flags in which runs on one line of Figure 5 may differ: budgets, seeds, and what decides no accuracy."""
FIXED, TRAINED = "fixed meta-state", "weights trained in the search"


def label(recipe: Recipe) -> str:
    """What a recipe's results are called in Figure 5: how bits were chosen, and what else differs."""
    if recipe.bit_selection:
        parts = ["given bits"]
    elif recipe.selection != "search":
        parts = [f"{recipe.selection} bits"]
    elif not recipe.meta_training:
        parts = ["search without bit-meta training"]
    elif recipe.train_weights_in_search:
        parts = ["search that trains weights"]
    else:
        parts = ["MetaMix"]
    weight_bits = recipe.weight_bits if recipe.searches_weights else (recipe.weight_bits,)
    parts.append(f"{'/'.join(map(str, weight_bits))}-bit weights")
    parts += [kind.label for kind in budget_rules.of_recipe(recipe).given if kind.label]
    if recipe.from_scratch:
        parts.append("from the float network")
    if recipe.teacher:
        parts.append("distilled")
    return ", ".join(parts)


def labels(recipes: Sequence[Recipe]) -> list[str]:
    """`label` of each recipe, with the flags in which it differs from others of the same label.

    Budgets and seeds may differ under one label: what has the same is one line of Figure 5.
    """
    found = [label(recipe) for recipe in recipes]
    told = []
    for name, recipe in zip(found, recipes, strict=True):
        group = [other for other, same in zip(recipes, found, strict=True) if same == name]
        flags = [
            field.name
            for field in dataclasses.fields(Recipe)
            if field.name not in _ALIKE
            and len({getattr(one, field.name) for one in group}) > 1
            # What is the same everywhere is often the only candidate.
            and not (field.name == "candidate_bits" and recipe.selection == "uniform")
        ]
        values = recipe.flag_texts
        told.append(", ".join([name, *(f"{flag}={values[flag] or 'none'}" for flag in flags)]))
    return told


def accuracy_document(workdirs: Sequence[pathlib.Path]) -> dict:
    """Figure 5: BOPs and accuracies of finished runs.

    Args:
      workdirs: finished ones; a run with several targets stands for each of its finished targets.

    Returns:
      `dataset`, `eval_images`, and `runs` in the order of their BOPs: `workdir`, `label`, `bops`,
      `target_bops`, `average_bits`, `float_top1`, `fixed_top1`, `folded_top1`, `tflite_top1`.

    Raises:
      RecipeError: if a folder is no finished workdir, its metrics were edited, or runs are of different
        evaluation images.
    """
    if not workdirs:
        raise RecipeError(
            "there is no finished workdir to draw: neither --workdir nor --compare names one; allowed: "
            "finished workdirs."
        )
    runs, recipes, images, files = [], [], {}, {}
    for workdir in dict.fromkeys(path for root in workdirs for path in _checked(root)):
        state = earlier_state(workdir)
        results.check(workdir, state, (results.METRICS,))
        try:
            metrics = json.loads((workdir / results.METRICS).read_text())
            recipe = Recipe.from_flagfile((workdir / "run.flags").read_text())
            if recipe.told_task not in ("classification", "binary"):
                raise ValueError(f"--task={recipe.task} has no top-1")
            recipes.append(recipe)
            runs.append({"workdir": str(workdir)} | {key: metrics[key] for key in _COPIED})
            images[workdir] = (recipe.dataset, metrics["eval_images"])
            known = state.get("inputs", {}).get("dataset", {}).get("evaluation")
            if known:
                files[recipe.dataset, known["sha256"]] = workdir
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise RecipeError(f"{workdir} is no finished workdir: {error!r}.") from error
    if len(set(images.values())) > 1:
        found = "; ".join(f"{path}: {count} images of {name}" for path, (name, count) in images.items())
        raise RecipeError(f"accuracies on different images cannot be compared ({found}). Leave some out.")
    if len(files) > 1:
        found = ", ".join(map(str, files.values()))
        raise RecipeError(
            "accuracies on different images cannot be compared: the files of the evaluation images changed "
            f"between the runs of {found}. Leave some out."
        )
    runs = [run | {"label": name} for run, name in zip(runs, labels(recipes), strict=True)]
    dataset, eval_images = next(iter(images.values()))
    return {"dataset": dataset, "eval_images": eval_images, "runs": sorted(runs, key=lambda run: run["bops"])}


def _checked(root: pathlib.Path) -> list[pathlib.Path]:
    found = results.finished_folders(root)
    if not found:
        raise RecipeError(f"{root} is no finished workdir: it has no metrics.json, nor has a target in it.")
    return found


def load_selection(path: pathlib.Path) -> BitSelection:
    """The bit selection of a workdir or a file.

    Raises:
      RecipeError: if none can be read.
    """
    path = path / "bit_selection.json" if path.is_dir() else path
    try:
        return BitSelection.load(path)
    except (OSError, SelectionMismatchError) as error:
        raise RecipeError(f"{path} is no bit selection: {error}") from error


def check_run(recipe: Recipe, data, network: keras.Model) -> None:
    """Refuses a float network or data that have changed since the workdir's run chose its bits.

    Those that a flag of one's own names are what was asked for.

    Raises:
      RecipeError: says what has changed.
    """
    flagfile = pathlib.Path(recipe.workdir, "run.flags")
    if not flagfile.exists():
        return
    run = Recipe.from_flagfile(flagfile.read_text())
    inputs = fingerprints.of_inputs(recipe, data, network)
    same = ("float_model", "dataset") if run.data_dir == recipe.data_dir else ("float_model",)
    shown = {f: inputs[f] for f in same if f in inputs and getattr(run, f) == getattr(recipe, f)}
    check_inputs(recipe, earlier_state(flagfile.parent), shown)


def name_of(path: pathlib.Path, *, trains_weights: bool) -> str:
    """What a selection is called in Figure 7: how its search was run, or, where that is not known, its file.

    Args:
      path: workdir or file that it is read from.
      trains_weights: whether the search is to be one that trained weights.

    Raises:
      RecipeError: if the workdir's run was of another kind.
    """
    flagfile = path / "run.flags"
    if not flagfile.exists():
        return path.name
    found = Recipe.from_flagfile(flagfile.read_text())
    if not found.searches or found.train_weights_in_search != trains_weights:
        wanted = "--train_weights_in_search" if trains_weights else "a search on the fixed meta-state"
        where = "the workdir of --compare" if trains_weights else "--workdir"
        raise RecipeError(f"{path} is of a run with {label(found)}; {where} is to be one with {wanted}.")
    return TRAINED if trains_weights else FIXED


def check_selections(network: keras.Model, selections: Iterable[BitSelection]) -> None:
    """Refuses selections that are not of this network.

    Raises:
      RecipeError: names the layers.
    """
    names = [cost.name for cost in bops.layer_costs(canonical.canonicalize(network))]
    for selection in selections:
        if [layer.name for layer in selection.layers] != names:
            odd = sorted({layer.name for layer in selection.layers} ^ set(names))
            raise RecipeError(
                f"the bit selection is of another network than {network.name!r}: layers "
                f"{odd or 'in another order'}. Give the --float_model of the run that made it."
            )


def bits_document(
    network: keras.Model,
    batches,
    selections: Sequence[tuple[str, BitSelection]],
    *,
    samples: int,
    seed: int,
) -> dict:
    """Figure 7: one or two selections, and the Hessian trace of each layer's weights over its operations.

    Args:
      network: float network whose Hessian it is.
      batches: (images, labels) of one size.
      selections: (name that it is drawn under, selection) of (a), if there is one, and of (b), over which the
        traces are drawn.
      samples, seed: of Hutchinson's estimator.

    Returns:
      `bit_widths`; `selections` with `part`, `name`, `bops`, `target_bops`, `activation_bits`; `layers` with
      `name`, `kind`, `macs`, `trace`, `standard_error` and both over the MACs; `rank_correlation`, Spearman's
      of bits in (b) and trace per operation over the searched layers.
    """
    traces = classification_traces(canonical.canonicalize(network), batches, samples=samples, seed=seed)
    fixed = selections[-1][1]
    layers = []
    for layer in fixed.layers:
        trace = traces[layer.name]
        error = trace.standard_error
        layers.append(
            {
                "name": layer.name,
                "kind": layer.kind,
                "macs": layer.macs,
                "searched": layer.searched,
                "trace": trace.mean,
                "standard_error": error,
                "trace_per_operation": trace.mean / layer.macs,
                "standard_error_per_operation": None if error is None else error / layer.macs,
            }
        )
    searched = [index for index, layer in enumerate(fixed.layers) if layer.searched]
    return {
        "bit_widths": list(fixed.bit_widths),
        "selections": [
            {
                "part": part,
                "name": name,
                "bops": selection.bops,
                "target_bops": selection.target_bops,
                "activation_bits": [layer.activation_bits for layer in selection.layers],
            }
            for part, (name, selection) in zip("ab"[-len(selections) :], selections, strict=True)
        ],
        "layers": layers,
        "rank_correlation": rank_correlation(
            [fixed.layers[index].activation_bits for index in searched],
            [layers[index]["trace_per_operation"] for index in searched],
        ),
    }


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's rank correlation, equal values sharing their mean rank; None where all of one are equal."""
    if min(len(set(one)), len(set(other))) < 2:
        return None
    return float(spearmanr(one, other).statistic)
