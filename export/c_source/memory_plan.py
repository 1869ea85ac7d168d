"""Where each activation lies in RAM: offsets in one arena, from sizes and lifetimes.

    blocks = [Block("conv", 9216, 0, 1), Block("depthwise", 4608, 1, 2)]
    plan = arrange(blocks, in_place={})
    plan.bytes, plan.offsets, plan.peak             # 13824, {"conv": 0, "depthwise": 9216}, 1
    print(table(plan))

Greedy by size (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020,
https://arxiv.org/abs/2001.03288), which TensorFlow Lite Micro has too: the largest block first, each at the
lowest offset that is free during its life. No plan can be smaller than what is live at one step together;
where the greedy one is larger, other orders are tried, always the same ones.

An operator that works element by element may write over its input: the two may then overlap at that one step,
if they begin at the same byte and the output's slots are not wider.
"""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_TRIES = 400
_ALIGNMENT = 4


@dataclass(frozen=True)
class Block:
    """Bytes that are needed from step `first` to step `last`, both included."""

    name: str
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """Where blocks lie.

    Attributes:
      blocks: in the order in which they are first needed.
      offsets: first byte of each block, by name; multiples of 4.
      in_place: name of a block -> name of the one that it is written over.
      bytes: of the arena.
      peak: a step at which the most bytes are live.
      live: bytes that are live at each step.
    """

    blocks: tuple[Block, ...]
    offsets: dict[str, int]
    in_place: dict[str, str]
    bytes: int
    peak: int
    live: tuple[int, ...]

    def live_at(self, step: int) -> tuple[Block, ...]:
        """The blocks that are live at a step, the largest first."""
        live = [block for block in self.blocks if block.first <= step <= block.last]
        return tuple(sorted(live, key=lambda block: -block.size))


def arrange(blocks: Sequence[Block], *, in_place: Mapping[str, str]) -> Plan:
    """The smallest arena that was found.

    Args:
      blocks: names are unique.
      in_place: name of a block -> name of the one that it may be written over, whose life ends where its own
        begins.
    """
    steps = range(max((block.last for block in blocks), default=0) + 1)
    live = tuple(_live_bytes(blocks, in_place, step) for step in steps)
    bound = max(live)
    best, best_size = {}, None
    for order in _orders(blocks):
        offsets = _placed(order, in_place)
        size = max((offsets[block.name] + aligned(block.size) for block in blocks), default=0)
        if best_size is None or size < best_size:
            best, best_size = offsets, size
        if size <= bound:
            break
    used = {name: other for name, other in in_place.items() if best[name] == best[other]}
    ordered = tuple(sorted(blocks, key=lambda block: (block.first, -block.size, block.name)))
    return Plan(ordered, best, used, best_size or 0, live.index(bound), live)


def aligned(size: int) -> int:
    """The next multiple of a word."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def table(plan: Plan) -> str:
    """The plan as text: a line a block, with its first byte, its bytes and its life."""
    width = max(len(name) for name in ("tensor", *plan.offsets))
    lines = [f"{'tensor':<{width}}  offset   bytes  steps"]
    for block in plan.blocks:
        over = f"  over {plan.in_place[block.name]}" if block.name in plan.in_place else ""
        lines.append(
            f"{block.name:<{width}}  {plan.offsets[block.name]:>6}  {block.size:>6}  "
            f"{block.first}..{block.last}{over}"
        )
    return "\n".join([*lines, f"{plan.bytes} bytes; the peak is at step {plan.peak}"])


def _live_bytes(blocks, in_place, step):
    live = {block.name: block for block in blocks if block.first <= step <= block.last}
    covered = {
        name
        for name, other in in_place.items()
        if name in live and other in live and live[name].first == step
    }
    return sum(aligned(block.size) for name, block in live.items() if name not in covered)


def _orders(blocks):
    by_size = sorted(blocks, key=lambda block: (-block.size, block.first, block.name))
    yield by_size
    yield sorted(blocks, key=lambda block: (block.first - block.last, -block.size, block.name))
    yield sorted(blocks, key=lambda block: (block.first, -block.size, block.name))
    generator = random.Random(0)
    for _ in range(_TRIES):
        # Sizes that are blurred keep large blocks in front.
        weights = {block.name: block.size * generator.uniform(0.5, 1.5) for block in blocks}
        yield sorted(blocks, key=lambda block, weights=weights: (-weights[block.name], block.name))


def _placed(order, in_place):
    offsets, done = {}, []
    for block in order:
        neighbours = [other for other in done if other.first <= block.last and block.first <= other.last]
        partners = {
            other.name
            for other in neighbours
            if in_place.get(block.name) == other.name or in_place.get(other.name) == block.name
        }
        starts = itertools.chain(
            [0],
            (offsets[name] for name in partners),
            (offsets[other.name] + aligned(other.size) for other in neighbours),
        )
        offsets[block.name] = min(
            start for start in starts if _is_free(block, start, neighbours, partners, offsets)
        )
        done.append(block)
    return offsets


def _is_free(block, start, neighbours, partners, offsets):
    for other in neighbours:
        begin = offsets[other.name]
        apart = start + aligned(block.size) <= begin or begin + aligned(other.size) <= start
        if not apart and not (other.name in partners and start == begin):
            return False
    return True
