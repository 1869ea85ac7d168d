"""A recipe is everything that decides a run: one frozen value, made from the command line and then checked.

Each field of `Recipe` is the flag of the same name, with the same default. `Recipe.to_flagfile` writes the
flags that replay the run; `Recipe.differences` says how two runs differ, so that a workdir is never resumed
by another run.

    >>> recipe = Recipe.from_flagfile("--float_epochs=12\\n--workdir=runs/try\\n")
    >>> recipe.candidate_bits, recipe.target_average_bits
    ((8, 4, 3), 4.0)
"""

import dataclasses
import os
from dataclasses import dataclass

from absl import flags

from mmx_tf import devices
from mmx_tf.errors import RecipeError
from mmx_tf.notation import target_folder
from mmx_tf.recipe import rules
from mmx_tf.recipe.budget_rules import KINDS
from mmx_tf.recipe.fields import RecipeFields
from mmx_tf.recipe.texts import (
    parse_average_bits,
    parse_bops,
    parse_bytes,
    parse_candidate_bits,
    parse_milliseconds,
    parse_names,
    parse_pixel_scaling,
    parse_weight_bits,
)

FREE_FLAGS = (
    "workdir", "checkpoint_minutes", "keep_checkpoints", "on_divergence", "export_target", "tpu",
    "baselines", "sensitivity_images",
)  # fmt: skip
"""Flags that may change when a run is resumed: they say where and how it is kept, which of its results are
made and what they are compared with, not what it computes."""
EXPORT_FLAGS = ("weight_storage", "input_type", "output_type")
"""Flags of the file alone, of which a finished run can give another (`mmx_tf.reexport`)."""

__all__ = ["EXPORT_FLAGS", "FREE_FLAGS", "Recipe", "RecipeError", "define_flags", "parse_bops"]


@dataclass(frozen=True, kw_only=True)
class Recipe(RecipeFields):
    """All settings of one run; the help text of each flag is beside its field. Make it with `from_flags`."""

    @classmethod
    def from_flags(cls, flag_values: flags.FlagValues) -> "Recipe":
        """Take the parsed flags of `define_flags`; call `validate` on the result before work starts.

        Raises:
            RecipeError: a flag whose text is parsed (bits, targets in BOPs or bytes) cannot be read.
        """
        values = {field.name: flag_values[field.name].value for field in dataclasses.fields(cls)}
        values["candidate_bits"] = parse_candidate_bits(values["candidate_bits"])
        values["weight_bits"] = parse_weight_bits(values["weight_bits"])
        targets, exported = values["target_bops"].strip(), values["export_target"].strip()
        values["target_bops"] = tuple(map(parse_bops, targets.split(","))) if targets else ()
        values["export_target"] = parse_bops(exported, flag="export_target") if exported else 0
        for name in ("target_bytes", "target_ram", "target_flash"):
            size = values[name].strip()
            values[name] = parse_bytes(size, flag=name) if size else 0
        values["target_average_bits"] = parse_average_bits(values["target_average_bits"].strip())
        latency = values["target_latency"].strip()
        values["target_latency"] = parse_milliseconds(latency) if latency else 0.0
        values["baselines"] = parse_names(values["baselines"])
        values["pixel_scaling"] = parse_pixel_scaling(values["pixel_scaling"])
        # Average bits are no budget where weight bits are searched too.
        if not (isinstance(values["weight_bits"], tuple) or any(values[name] for name in KINDS)):
            values["target_average_bits"] = 4.0
        device = devices.DEVICES.get(values["device"])
        for name, value in (device.wants if device else {}).items():
            # What is given, also by a flagfile, stays.
            if not flag_values[name].present:
                values[name] = value
        return cls(**values)

    @classmethod
    def from_flagfile(cls, text: str) -> "Recipe":
        """Read back what `to_flagfile` wrote (or any flagfile's text); later lines override earlier ones.

        Raises:
            RecipeError: a line is not one of our flags, or its value cannot be read.
        """
        flag_values = flags.FlagValues()
        define_flags(flag_values)
        lines = [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
        try:
            rest = flag_values(["flagfile", *lines])[1:]
        except flags.Error as error:
            raise RecipeError(f"The flagfile cannot be read: {error}") from error
        if rest:
            raise RecipeError(f"The flagfile has a line that is not --name=value: {rest[0]!r}.")
        return cls.from_flags(flag_values)

    def to_flagfile(self) -> str:
        """The text of a flagfile that replays this run: every flag, in groups, one `--name=value` a line."""
        lines, groups = [], {field.name: field.metadata["group"] for field in dataclasses.fields(self)}
        for name, text in self.flag_texts.items():
            if groups[name]:
                lines.append(f"# {groups[name]}")
            lines.append(f"--{name}={text}")
        return "\n".join(lines) + "\n"

    @property
    def flag_texts(self) -> dict[str, str]:
        """Flag -> its value as it stands on a command line, in groups."""
        # Settings of the search, options of weight training and ablations are inherited, and come last.
        own = RecipeFields.__annotations__
        fields = sorted(dataclasses.fields(self), key=lambda field: field.name not in own)
        return {field.name: _flag_text(field, getattr(self, field.name)) for field in fields}

    def differences(self, other: "Recipe") -> list[str]:
        """Name the flags that differ, with both values; `FREE_FLAGS` do not count."""
        return [
            f"--{field.name} is {_flag_text(field, mine) or 'empty'} here and "
            f"{_flag_text(field, theirs) or 'empty'} there"
            for field in dataclasses.fields(self)
            for mine, theirs in [(getattr(self, field.name), getattr(other, field.name))]
            if field.name not in FREE_FLAGS
            and mine != theirs
            # A task that is not told yet is that of the network, which is compared by itself.
            and not (field.name == "task" and mine in ("", "classification"))
            # What it was by default when all examples were images.
            and not (field.name == "input_type" and (mine, theirs) == ("", "uint8"))
        ]

    def for_target(self, bops: int) -> "Recipe":
        """The recipe of one of several targets, whose workdir is a folder of this one's."""
        folder = os.path.join(self.workdir, target_folder(bops))
        return dataclasses.replace(self, target_bops=(bops,), export_target=0, workdir=folder)

    @property
    def finished_in(self) -> tuple[str, ...]:
        """The folders that hold the results once the run is finished: the workdir, or one for each target."""
        if len(self.target_bops) < 2:
            return (self.workdir,)
        return tuple(self.for_target(bops).workdir for bops in self.exported_targets)

    @property
    def exported_targets(self) -> tuple[int, ...]:
        """Those of `target_bops` that are fine-tuned and exported, in their order."""
        return (self.export_target,) if self.export_target else self.target_bops

    def validate(self) -> None:
        """Check every field against its allowed set and the fields against each other.

        Raises:
            RecipeError: names the flag, its value, what is allowed and what to do.
        """
        rules.check(self)

    def check_tool(self) -> None:
        """Check that the tool of --device is installed; a `RecipeError` names the extra where it is not."""
        rules.check_tool(self)

    def check_classes(self, *, num_classes: int, dataset: str) -> None:
        """Check --num_classes against the loaded dataset's; a `RecipeError` when they differ."""
        rules.check_classes(self, num_classes=num_classes, dataset=dataset)


def define_flags(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Define one absl flag for each field of `Recipe`; a flag given later overrides an earlier one."""
    define = {
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        bool: flags.DEFINE_bool,
        str: flags.DEFINE_string,
    }
    for field in dataclasses.fields(Recipe):
        kind, default = field.type, field.default
        if field.metadata["text"]:
            kind, default = str, _flag_text(field, default)
        define[kind](field.name, default, field.metadata["help"], flag_values=flag_values)


def _flag_text(field: dataclasses.Field, value) -> str:
    """A field's value as it stands on a command line."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if field.metadata["text"] and not value else str(value)
