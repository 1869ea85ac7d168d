"""How many bit-search steps a search needs, and how many epochs of a run these are.

A bit-search step moves alpha by about its learning rate (Adam), so steps times rate is what counts, and not
epochs. The two numbers below are measured (`docs/guides/epochs_and_rates.md` has the table):

>>> length = SearchLength(steps=22, steps_per_epoch=22, rate=0.01)
>>> length.needed, length.epochs(length.needed), length.very_short
(600, 29, True)
"""

import dataclasses
import math
from collections.abc import Mapping

ENOUGH = 6.0
"""Bit-search steps times `--alpha_learning_rate` of a search that is long enough: 300 steps at 0.02."""
SHORTEST = 1.5
"""The same of the shortest search that was measured, and that still beat bits drawn at random: 75 at 0.02."""
LARGEST_RATE = 0.1
"""The largest rate of alpha that was measured."""
STEPS_AT_LARGEST_RATE = 150
"""As many steps at this rate found the bits of `ENOUGH`; fewer were not measured."""
DOUBLING = 4
"""So many times the steps about double the margins between candidates: they grow with the square root."""


@dataclasses.dataclass(frozen=True)
class SearchLength:
    """The length of a run's search, in steps.

    Attributes:
      steps: bit-search steps of the whole run.
      steps_per_epoch: of each epoch of bit selection; the first epoch has bit-meta steps alone.
      rate: --alpha_learning_rate.
    """

    steps: int
    steps_per_epoch: int
    rate: float

    @classmethod
    def of_epochs(cls, select_epochs: int, steps_per_epoch: int, rate: float) -> "SearchLength":
        """The length of a search of --select_epochs epochs, the first of which has bit-meta steps alone."""
        return cls(steps_per_epoch * (select_epochs - 1), steps_per_epoch, rate)

    @property
    def needed(self) -> int:
        """Bit-search steps that are enough at this rate."""
        return steps_at(self.rate, ENOUGH)

    @property
    def too_short(self) -> bool:
        """Whether there are fewer steps than are enough."""
        return self.steps < self.needed

    @property
    def very_short(self) -> bool:
        """Whether there are fewer steps than any search had that was measured."""
        return self.steps < steps_at(self.rate, SHORTEST)

    def epochs(self, steps: int) -> int:
        """The --select_epochs that have so many bit-search steps, or some more."""
        return 1 + math.ceil(steps / self.steps_per_epoch)

    @property
    def flags(self) -> str:
        """The flags of a search that is long enough, with a shorter one at a larger rate if there is one."""
        words = f"--select_epochs={self.epochs(self.needed)}"
        faster = self.epochs(STEPS_AT_LARGEST_RATE)
        if self.rate < LARGEST_RATE and faster < self.epochs(self.needed):
            words += f" (or --select_epochs={faster} --alpha_learning_rate={LARGEST_RATE:g})"
        return words

    @property
    def advice(self) -> str:
        """What to do about a search that could not tell its candidates apart, in sentences."""
        had = f"The search had {_steps(self.steps)}"
        if self.too_short:
            return f"{had}; {self.needed:,} are enough at --alpha_learning_rate={self.rate:g}: {self.flags}."
        return (
            f"{had}, and {self.needed:,} are enough at --alpha_learning_rate={self.rate:g}: candidates that "
            "are still this close are about as good as each other. To double their margins takes about "
            f"{DOUBLING} times the steps: --select_epochs={self.epochs(DOUBLING * self.steps)}."
        )

    @property
    def warning(self) -> str:
        """What to say before training; "" of a search that is not very short."""
        if not self.very_short:
            return ""
        return (
            f"Bit selection will have {_steps(self.steps)}, too few to tell the candidates apart: "
            f"{self.needed:,} are enough at --alpha_learning_rate={self.rate:g}, which is {self.flags}."
        )


def _steps(number: int) -> str:
    return f"{number:,} bit-search step{'' if number == 1 else 's'}"


def steps_at(rate: float, product: float) -> int:
    """Steps whose number times the rate is `product`, rounded up."""
    return math.ceil(round(product / rate, 6))


def advice_of(length: Mapping | None, settings: Mapping) -> str:
    """`SearchLength.advice` of a recorded search; of one whose length is not recorded, the steps alone.

    Args:
      length: the attributes of a `SearchLength` by name; None where none was recorded.
      settings: flags by name, as numbers or as texts; `alpha_learning_rate` may be missing.
    """
    if length:
        return SearchLength(**length).advice
    if "alpha_learning_rate" not in settings:
        return "Give it more --select_epochs or a larger --alpha_learning_rate."
    rate = float(settings["alpha_learning_rate"])
    return (
        f"{steps_at(rate, ENOUGH):,} bit-search steps are enough at --alpha_learning_rate={rate:g}; each of "
        "the --select_epochs but the first has as many as an epoch has batches."
    )
