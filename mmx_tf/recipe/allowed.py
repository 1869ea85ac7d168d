"""How a flag is declared: its default, its help, and beside them what its value may be.

`mmx_tf.recipe.rules` checks it.

>>> OneOf(("sgd", "adam")).words, Between(2, or_zero=True).words
('sgd, adam', '0, or 2 or more')
>>> Between(0, 1).takes(float("nan"))
False
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class OneOf:
    """One of some values."""

    values: tuple
    form = "one of {words}"

    @property
    def words(self) -> str:
        """The values, "empty" for an empty text."""
        return ", ".join(str(value) or "empty" for value in self.values)

    def takes(self, value) -> bool:
        """Whether the value is one of them."""
        return value in self.values


@dataclasses.dataclass(frozen=True)
class SomeOf:
    """Any number of some texts, each once; () for none."""

    values: tuple[str, ...]

    @property
    def words(self) -> str:
        """The texts."""
        return f"empty, or one or more of {', '.join(self.values)}, separated by commas"

    def takes(self, value) -> bool:
        """Whether all parts of the value are among them, none of them twice."""
        return set(value) <= set(self.values) and len(set(value)) == len(value)


@dataclasses.dataclass(frozen=True)
class Between:
    """A finite number from `low` to `high`, both included; with `or_zero` 0 too."""

    low: float
    high: float | None = None
    or_zero: bool = False
    form = "{noun} of {words}"

    @property
    def words(self) -> str:
        """The limits."""
        limits = f"{self.low} or more" if self.high is None else f"{self.low} to {self.high}"
        return f"0, or {limits}" if self.or_zero and self.low > 0 else limits

    def takes(self, value) -> bool:
        """Whether the number is within the limits."""
        inside = self.low <= value < math.inf and (self.high is None or value <= self.high)
        return inside or (self.or_zero and value == 0)


@dataclasses.dataclass(frozen=True)
class AboveZero:
    """A finite number above 0."""

    words = "any finite number above 0"
    form = "{noun} above 0"

    def takes(self, value) -> bool:
        """Whether the number is one."""
        return 0 < value < math.inf


@dataclasses.dataclass(frozen=True)
class BelowOne:
    """A number from 0 on, below 1."""

    words = "0 or more, below 1"
    form = "{noun} of {words}"

    def takes(self, value) -> bool:
        """Whether the number is one."""
        return 0 <= value < 1


def flag(default, help_text: str, *, group: str = "", text: bool = False, allowed=None):
    """A field that is a flag.

    Args:
      default: its value where it is not given.
      help_text: what --help says; "{allowed}" in it stands for the allowed values.
      group: opens a group of the flagfile.
      text: marks a string that is parsed.
      allowed: what the value may be, one of the classes here; None where `mmx_tf.recipe.rules` says it.
    """
    if allowed:
        help_text = help_text.replace("{allowed}", allowed.words)
    metadata = {"help": help_text, "group": group, "text": text, "allowed": allowed}
    return dataclasses.field(default=default, metadata=metadata)
