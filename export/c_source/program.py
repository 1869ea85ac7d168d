"""What a program in C has: stored tensors and steps, each of which computes one of them.

    stored.low, stored.high, stored.bits                # codes 112..127 in 4-bit slots
    step.kind, step.reads, step.output                  # "conv", what it reads, what it stores

`export.c_source.lowering` makes programs of a file, `export.c_source.storing` takes the smallest.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Way(NamedTuple):
    """How something is stored in another way than usual.

    Attributes:
      what: "store whole", a sum whose readers see fewer codes; "look up", codes that are stored besides.
      operator: index of the ADD or SUB, or of the convolution that looks up.
    """

    what: str
    operator: int


@dataclass(eq=False)
class Stored:
    """A tensor that lies in slots.

    Attributes:
      name: of the file's tensor whose codes it holds.
      shape: without the batch.
      low, high: the codes that it can take; a slot holds code - low.
      bits: of a slot.
      place: "arena"; "image" for the caller's memory; "constant" for the flash.
    """

    name: str
    shape: tuple
    low: int
    high: int
    bits: int
    place: str = "arena"

    @property
    def count(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape))

    @property
    def bytes(self) -> int:
        """What it takes in RAM."""
        return -(-self.count * self.bits // 8)


@dataclass(frozen=True, eq=False)
class Read:
    """How a step sees a stored tensor.

    Attributes:
      stored: what it reads.
      shape: as the step's operator sees it, without the batch.
      low, high: the codes that arrive.
      table: [high - low + 1 of the stored tensor], the code for each; None where it is the same.
    """

    stored: Stored
    shape: tuple
    low: int
    high: int
    table: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Addition:
    """An ADD or SUB whose first operand a step computes.

    Attributes:
      operator: of the file.
      own: 0 or 1, which of its inputs that is.
      read: the other one, already stored.
      codes: (lowest, highest) that the sum takes.
      table: [codes], what is stored for each; None where it is the same.
    """

    operator: object
    own: int
    read: Read
    codes: tuple
    table: np.ndarray | None


@dataclass(eq=False)
class Step:
    """One call of a kernel.

    Attributes:
      kind: of the kernel in C.
      operator: the file's operator whose codes it computes first.
      reads: its inputs.
      output: what it stores.
      codes: (lowest, highest) that the operator's output takes.
      table: [codes], what is stored, or added, for each; None where it is the same.
      addition: what is added behind, or None.
      padding: rows and columns of a PAD in front, (top, left).
      scratch: bytes of RAM that it needs besides; `storing` says them, and its number.
      details: what its kernel wants to know besides.
    """

    kind: str
    operator: object
    reads: list
    output: Stored
    codes: tuple
    table: np.ndarray | None = None
    addition: Addition | None = None
    padding: tuple = (0, 0)
    scratch: int = 0
    number: int = -1
    details: dict = field(default_factory=dict)

    def sources(self) -> list[Stored]:
        """The stored tensors that are read, those of an addition too."""
        reads = [*self.reads, *([self.addition.read] if self.addition else [])]
        return [read.stored for read in reads if read.stored.place == "arena"]


@dataclass(frozen=True, eq=False)
class Program:
    """Steps in their order, and what goes in and out.

    Attributes:
      inputs: the file's inputs, as the caller's memory.
      outputs: (stored tensor or read, the file's tensor) of each output.
      other_ways: in which some of it may be stored, those that are taken included.
    """

    steps: tuple
    inputs: tuple
    outputs: tuple
    graph: object
    other_ways: frozenset = frozenset()
