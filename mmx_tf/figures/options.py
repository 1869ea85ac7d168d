"""What the command of the paper's figures is asked for, beside the recipe: flags, checked before any work."""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

from absl import flags

from mmx_tf.data import kinds
from mmx_tf.errors import RecipeError
from mmx_tf.recipe.allowed import flag
from mmx_tf.recipe.recipe import Recipe, define_flags
from mmx_tf.workdir import results

FIGURES = ("1", "2", "5", "6", "7")
TRAINED = ("1", "2", "6")
"""Figures that train networks."""
OF_FLOAT_NETWORK = (*TRAINED, "7")
"""Figures that need the recipe's data and float network."""
AT_LEAST = {
    "steps": 2, "images": 2, "switch_every": 1, "hessian_samples": 1, "hessian_images": 1,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FigureOptions:
    """Which figures, and how much work goes into them. Make it with `from_flags`."""

    which: tuple[str, ...] = flag(
        (), f"Figures of the paper to make, separated by commas: {', '.join(FIGURES)}."
    )
    out: str = flag("", "Folder of figureN.png and figureN.json; empty takes 'figures' in the workdir.")
    compare: tuple[str, ...] = flag(
        (),
        "Figure 5: finished workdirs whose accuracies are drawn beside this one's. Figure 7: the workdir, or "
        "bit_selection.json, of a search that trained weights (--train_weights_in_search).",
    )
    steps: int = flag(150, "Figures 1, 2 and 6: training steps of each network.")
    layers: tuple[str, ...] = flag(
        (), "Figures 1 and 6: layers whose inputs are drawn; empty takes two depthwise layers."
    )
    images: int = flag(256, "Figures 1 and 6: held-out images that are looked at.")
    switched_layer: str = flag("", "Figure 2: layer whose bits switch; empty takes the second depthwise one.")
    switch_every: int = flag(10, "Figure 2: steps after which the bits are drawn anew.")
    statistics_momentum: float = flag(
        0.9,
        "Figures 1, 2 and 6: momentum of the running statistics of all batch norms. Keras's own 0.99 would "
        "show the float network's for hundreds of steps.",
    )
    hessian_samples: int = flag(64, "Figure 7: random vectors of Hutchinson's estimator.")
    hessian_images: int = flag(256, "Figure 7: training images of the loss whose Hessian it is.")

    def validate(self) -> None:
        """Checks every option against its allowed set.

        Raises:
          RecipeError: names the flag, the value and what is allowed.
        """
        unknown = [name for name in self.which if name not in FIGURES]
        if unknown or not self.which or len(set(self.which)) < len(self.which):
            raise RecipeError(
                f"--which={','.join(self.which)} is not allowed; allowed: different ones of "
                f"{', '.join(FIGURES)}, separated by commas."
            )
        for name, low in AT_LEAST.items():
            if getattr(self, name) < low:
                raise RecipeError(f"--{name}={getattr(self, name)} is not allowed; allowed: {low} or more.")
        if not 0 <= self.statistics_momentum < 1:
            raise RecipeError(
                f"--statistics_momentum={self.statistics_momentum} is not allowed; allowed: 0 or more, below "
                "1."
            )
        if "2" in self.which and 2 * self.switch_every > self.steps:
            raise RecipeError(
                f"--switch_every={self.switch_every} is not allowed; allowed: 1 to {self.steps // 2}, half "
                "of --steps, so that bits are drawn twice at least."
            )
        for path in self.compare:
            if not os.path.exists(path):
                raise RecipeError(f"--compare={','.join(self.compare)}: there is no {path}.")
        if "7" in self.which and "5" not in self.which and len(self.compare) > 1:
            raise RecipeError(
                f"--compare={','.join(self.compare)} is not allowed for Figure 7; allowed: one workdir or "
                "bit_selection.json, or none."
            )
        if {"5", "7"} <= set(self.which) and self.compare:
            raise RecipeError(
                f"--which={','.join(self.which)} with --compare: it means something else for 5 and for 7. "
                "Make one of them at a time."
            )


def weights_label(bits: int | None) -> str:
    """'full-precision weights', '4-bit weights'."""
    return "full-precision weights" if bits is None else f"{bits}-bit weights"


def define(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of the figures and those of `Recipe`."""
    define_flags(flag_values)
    kinds: dict[type, Callable] = {
        int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string,
    }  # fmt: skip
    for field in dataclasses.fields(FigureOptions):
        kind = kinds.get(field.type, flags.DEFINE_list)
        kind(field.name, field.default, field.metadata["help"], flag_values=flag_values)


def from_flags(flag_values: flags.FlagValues) -> tuple[FigureOptions, Recipe]:
    """The options and the recipe: that of the workdir's run, if there is one, with the flags that are given.

    Raises:
      RecipeError: for options that are not allowed, or a recipe that cannot be read.
    """
    values = {field.name: flag_values[field.name].value for field in dataclasses.fields(FigureOptions)}
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    options = FigureOptions(**values)
    options.validate()
    workdir = flag_values["workdir"].value
    if not workdir:
        raise RecipeError("--workdir= is not allowed; allowed: the folder of a run, or a new one.")
    text = ""
    if os.path.exists(os.path.join(workdir, "run.flags")):
        with open(os.path.join(workdir, "run.flags"), encoding="utf-8") as file:
            try:
                text = file.read()
            except UnicodeDecodeError as error:
                raise RecipeError(f"{file.name} is no text: {error}. Give another --workdir.") from error
    given = [flag_values[field.name] for field in dataclasses.fields(Recipe)]
    of_runs = [one for one in options.which if one == "7" or (one == "5" and not options.compare)]
    recipe_given = any(one.present for one in given if one.name != "workdir")
    if not os.path.isdir(workdir) and (of_runs or not recipe_given):
        advice = f"figure {' and '.join(of_runs)} is drawn of a finished run" if of_runs else (
            "give that of a run, or the flags of a recipe beside a new folder"
        )  # fmt: skip
        raise RecipeError(f"--workdir={workdir}: there is no such folder; {advice}.")
    _check_writable(options.out or os.path.join(workdir, "figures"))
    lines = [
        f"--{one.name}={str(one.value).lower() if one.boolean else one.value}" for one in given if one.present
    ]
    recipe = Recipe.from_flagfile("\n".join([*text.splitlines(), *lines]))
    return options, recipe


def check_first(options: FigureOptions, recipe: Recipe) -> None:
    """Refuses what shows without a dataset or a network, before TensorFlow is loaded.

    Raises:
      RecipeError: where there is no finished workdir to draw, or no float network, or for the recipe.
      DataError: for a dataset that does not exist.
    """
    if "5" in options.which and not options.compare:
        if not results.finished_folders(pathlib.Path(recipe.workdir)):
            raise RecipeError(
                f"--workdir={recipe.workdir}: there is no finished workdir to draw, and --compare names "
                "none; allowed: finished workdirs."
            )
    if not set(options.which) & set(OF_FLOAT_NETWORK):
        return
    recipe.validate()
    trained = [which for which in options.which if which in TRAINED]
    if trained and len(recipe.candidate_bits) < 2:
        raise RecipeError(
            f"--candidate_bits={recipe.candidate_bits[0]} is not allowed for --which="
            f"{','.join(trained)}; allowed: two or more, such as 8,4,3, which are compared."
        )
    kinds.check(recipe.dataset, data_dir=recipe.data_dir)
    if not recipe.float_model:
        results.trained_float(pathlib.Path(recipe.workdir))


def _check_writable(out: str) -> None:
    """Refuses a folder of figures that could not be made, before any of them is."""
    there = os.path.abspath(out)
    while not os.path.exists(there):
        there = os.path.dirname(there)
    if not (os.path.isdir(there) and os.access(there, os.W_OK)):
        raise RecipeError(
            f"--out={out} cannot be made: {there} is no folder that can be written. Give another --out."
        )
