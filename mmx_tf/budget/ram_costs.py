"""RAM of the C source as a cost: the arena that its plan of memory takes, by the bits of the searched layers.

    blocks = (LiveBlock("conv1", 0, 1, 0, (9216, 4608)), LiveBlock("add", 1, 2, -1, (4608,)))
    costs = RamCosts(blocks, layers=1, candidates=2)
    costs.of([1])                                       # 9216 bytes of the arena with the second candidate

The blocks are the tensors and the scratch memory of `export.c_source`, which arranges them;
`mmx_tf.metamix.ram` measures them on a network.
"""

import dataclasses
import functools
from collections.abc import Sequence

from mmx_tf.export.c_source.memory_plan import Block, Rows, aligned, arrange
from mmx_tf.recipe.candidate_costs import CandidateCosts

UNIT = "bytes of RAM"


@dataclasses.dataclass(frozen=True)
class LiveBlock:
    """Bytes that are needed from one step of the program to another.

    Attributes:
      name: of the tensor.
      first, last: steps, both included.
      layer: index of the searched layer on whose candidate its size depends; -1 for none.
      sizes: bytes at each candidate, or one number.
      over: name of the block that it may be written over; empty for none.
      narrower: whether it may do that where it has fewer bytes than that one, too.
      into: name of the block that it may be written into; empty for none.
      rows: how it is written into that.
    """

    name: str
    first: int
    last: int
    layer: int
    sizes: tuple[int, ...]
    over: str = ""
    narrower: bool = False
    into: str = ""
    rows: Rows | None = None

    def size(self, choice: Sequence[int]) -> int:
        """Bytes at a choice."""
        return self.sizes[choice[self.layer]] if self.layer >= 0 else self.sizes[0]


@dataclasses.dataclass(frozen=True)
class RamCosts:
    """Bytes of the arena.

    Attributes:
      blocks: in the order of the program.
      layers: L, the number of searched layers.
      candidates: C, those of a layer.
    """

    blocks: tuple[LiveBlock, ...]
    layers: int
    candidates: int

    unit = UNIT
    is_limit = True  # What is below the peak is free, so a target is what the arena must not exceed.

    def of(self, choice: Sequence[int]) -> int:
        """Bytes of the arena with the candidate's index of every searched layer."""
        return _arranged(self, tuple(choice))

    exactly = of

    @property
    def reachable(self) -> tuple[int, int]:
        """Arenas with the candidate of every layer that takes the fewest bytes in all, and the most."""
        return self.of(self.cheapest), self.of([row.index(max(row)) for row in self.totals])

    @property
    def cheapest(self) -> list[int]:
        """The choice with the candidate of every layer that takes the fewest bytes in all."""
        return [row.index(min(row)) for row in self.totals]

    @functools.cached_property
    def totals(self) -> list[list[int]]:
        """Bytes of all blocks of a layer at each candidate, L rows of C."""
        rows = [self._rows(layer) for layer in range(self.layers)]
        return [[sum(row[c] for row in of_layer) for c in range(self.candidates)] for of_layer in rows]

    def smaller(self, layer: int, candidate: int) -> tuple[int, ...]:
        """The candidates of a layer with fewer bytes than this one in some block."""
        rows = self._rows(layer)
        return tuple(c for c in range(self.candidates) if any(row[c] < row[candidate] for row in rows))

    def smallest(self, layer: int) -> int | None:
        """The candidate of a layer with the fewest bytes in every block; None if no candidate has."""
        rows = self._rows(layer)
        least = (c for c in range(self.candidates) if all(row[c] == min(row) for row in rows))
        return next(least, None)

    def _rows(self, layer: int) -> list[tuple[int, ...]]:
        return [block.sizes for block in self.blocks if block.layer == layer]

    @functools.cached_property
    def moments(self) -> tuple[CandidateCosts, ...]:
        """What is live at each step that can be the fullest; no arena can be smaller than any of them.

        A block that is written over another one adds nothing at that step where its own candidate decides
        whether it may be; elsewhere both are counted. A step with a block that is written into another one is
        two moments, its start and its end.
        """
        by_name = {block.name: block for block in self.blocks}
        steps = range(max(block.last for block in self.blocks) + 1)
        return without_lower([self._moment(step, by_name, end) for step in steps for end in (True, False)])

    def _moment(self, step, by_name, at_end) -> CandidateCosts:
        """What is live at a step: at its start, or at its end, when only last rows of an input are read."""
        table = [[0] * self.candidates for _ in range(self.layers)]
        fixed = 0
        for block in self.blocks:
            if not block.first <= step <= block.last:
                continue
            below = by_name[block.over] if block.over and step == block.first else None
            sizes = [
                0 if _covered(block, below, i) else self._live(block, size, step, at_end)
                for i, size in enumerate(block.sizes)
            ]
            if block.layer < 0:
                fixed += sizes[0]
                continue
            for candidate, size in enumerate(sizes):
                table[block.layer][candidate] += size
        return CandidateCosts(UNIT, tuple(map(tuple, table)), fixed)

    def _live(self, block, size, step, at_end) -> int:
        """Bytes of a block; of two that overlap, the written one is small at first, the other in the end."""
        if block.into and step == block.first and not at_end:
            # Rows that are written before any row has been read for the last time.
            return aligned(block.rows.reached(block.rows.before // block.rows.stride, size))
        rows = self._read_by_rows.get((block.name, step))
        if rows is not None and at_end:
            return aligned(size) - aligned(rows.done(rows.height - 1, size))
        return aligned(size)

    @functools.cached_property
    def _read_by_rows(self) -> dict[tuple[str, int], Rows]:
        return {(block.into, block.first): block.rows for block in self.blocks if block.into}


def without_lower(moments: Sequence[CandidateCosts]) -> tuple[CandidateCosts, ...]:
    """The moments that can be the fullest: those that no other one covers in every candidate."""
    each = tuple(dict.fromkeys(moments))
    return tuple(one for one in each if not any(_covers(other, one) for other in each if other != one))


def _covers(high: CandidateCosts, low: CandidateCosts) -> bool:
    return high.fixed >= low.fixed and all(
        above >= below
        for highs, lows in zip(high.table, low.table, strict=True)
        for above, below in zip(highs, lows, strict=True)
    )


def ram_costs_from(config: dict) -> RamCosts:
    """The costs of a dict that `dataclasses.asdict` made, lists in place of tuples included."""
    return RamCosts(tuple(map(_block_from, config["blocks"])), config["layers"], config["candidates"])


def _block_from(config):
    rows = config.get("rows")
    return LiveBlock(**{**config, "sizes": tuple(config["sizes"]), "rows": rows and Rows(*rows)})


def _covered(block: LiveBlock, below: LiveBlock | None, candidate: int) -> bool:
    """Whether a block is written over another one whatever is chosen besides its own candidate."""
    if below is None or below.layer not in (-1, block.layer):
        return False
    there = below.sizes[candidate] if below.layer >= 0 else below.sizes[0]
    return _may_cover(block, block.sizes[candidate], there)


def _may_cover(block: LiveBlock, size: int, below: int) -> bool:
    return size <= below if block.narrower else size == below


@functools.lru_cache(maxsize=4096)
def _arranged(costs: RamCosts, choice: tuple[int, ...]) -> int:
    sizes = {block.name: block.size(choice) for block in costs.blocks}
    in_place = {
        block.name: block.over
        for block in costs.blocks
        if block.over and _may_cover(block, sizes[block.name], sizes[block.over])
    }
    # Scratch memory that the choice does without is not among the blocks of its program either.
    blocks = [
        Block(block.name, sizes[block.name], block.first, block.last)
        for block in costs.blocks
        if sizes[block.name]
    ]
    into = {block.name: (block.into, block.rows) for block in costs.blocks if block.into}
    return arrange(blocks, in_place=in_place, into=into).bytes
