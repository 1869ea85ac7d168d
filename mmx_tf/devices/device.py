"""What a device may tell, and what holds for one that tells nothing.

In outline:

    table = device.table("target_flash", trials, layers)
    table.costs["conv1"][4, 8], table.fixed
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmx_tf.devices import kept

Pair = tuple[int, int]
"""(weight bits, activation bits)."""


class DeviceError(ValueError):
    """A device, or a budget on it, that there is not; the message is a sentence."""


class Table(NamedTuple):
    """Costs of layers at candidates, in the unit of a budget.

    Attributes:
      costs: searched layer -> pair -> cost.
      fixed: of everything else.
    """

    costs: dict[str, dict[Pair, float]]
    fixed: float


class Device:
    """A part that a network is made for.

    Attributes:
      name: what `--device` calls it.
      wants: flag -> its value where it is not given.
      takes: flag -> the values that can work; the others are refused.
      why: flag or budget -> the reason, a sentence.
      refuses: budgets (`target_latency`, ...) that mean nothing there, in `why`.
      measures: budget -> unit, of those whose costs its own tool tells (`table`, `figure`). Others cost what
        they cost without a device.
      is_choosy: whether `artefact` refuses some files. A run then asks it about an
        untrained trial, before training.
    """

    name = ""
    wants: Mapping[str, str] = {}
    takes: Mapping[str, Sequence[str]] = {}
    why: Mapping[str, str] = {}
    refuses: Sequence[str] = ()
    measures: Mapping[str, str] = {}
    is_choosy = False

    def check(self) -> None:
        """Raises a ValueError that says what to install where the device's tool is not there."""

    def table(self, budget: str, trials: Mapping[Pair, bytes], layers: Sequence[str]) -> Table:
        """What choices cost, of files in which all searched layers have a pair each.

        Args:
          budget: one of `measures`.
          trials: pair -> the file with it in every searched layer.
          layers: names of the searched layers.

        Raises:
          ValueError: if the tool refuses a file.
        """
        raise NotImplementedError

    def figure(self, budget: str, data: bytes) -> float:
        """The tool's figure of a whole file, in the unit of a budget; a ValueError if it refuses the file."""
        raise NotImplementedError

    def figures(self, data: bytes) -> dict[str, float | str]:
        """What the tool says of a file. Names that begin with `device_` are compared with baselines'.

        Raises:
          ValueError: if it refuses the file.
        """
        return {}

    def artefact(self, data: bytes) -> dict[str, bytes | str]:
        """What is made of a file: name -> contents; empty where the device takes the file itself.

        Raises:
          ValueError: if it cannot be made.
        """
        return {}

    def remembered(self, what: str, data: bytes, measure) -> object:
        """`measure()`, or what it gave of the same bytes before, in this run or one that it resumes."""
        return kept.current().of(self._key(what, data), measure)

    def is_remembered(self, what: str, data: bytes) -> bool:
        """Whether `remembered` need not measure."""
        return kept.current().has(self._key(what, data))

    def _key(self, what: str, data: bytes) -> str:
        return f"{self.name} {what} {hashlib.sha256(data).hexdigest()}"
