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
if they begin at the same byte and the output's slots are not wider. A window that goes over its input row by
row may write into it too, if it begins so many bytes before it that it never overtakes what is still read
(Blacker, Bridges and Hadfield, "Rapid Prototyping of Deep Learning Models on Radiation Hardened CPUs", 2019,
who call it diagonal memory optimisation; here by rows instead of single elements).
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_TRIES = 400
_ALIGNMENT = 4


@dataclass(frozen=True)
class Block:
    """Bytes that are needed from step `first` to step `last`, both included."""

    name: str
    size: int
    first: int
    last: int


class Rows(NamedTuple):
    """A window that goes over its input from the first row to the last.

    While it writes row r of its output, it reads rows from r * stride - before on; it may be a pixel ahead.

    Attributes:
      height, width: of the output.
      in_height: of the input.
      stride, before: rows from one window to the next, and rows of padding above the first.
    """

    height: int
    width: int
    in_height: int
    stride: int
    before: int

    def lag(self, written: int, read: int) -> int:
        """Bytes by which the output has to begin before the input, a multiple of 4.

        Args:
          written, read: bytes of the output and of the input.
        """
        return aligned(max(self.reached(row, written) - self.done(row, read) for row in range(self.height)))

    def reached(self, row: int, written: int) -> int:
        """Bytes of the output up to the end of what is written with a row."""
        pixels = self.height * self.width
        return -(-written * min((row + 1) * self.width + 1, pixels) // pixels)

    def done(self, row: int, read: int) -> int:
        """Bytes of the input in front of what is read from a row of the output on."""
        rows = min(max(row * self.stride - self.before, 0), self.in_height)
        # The last byte of an input may be filled in part, which makes each row seem longer.
        return max(read * rows // self.in_height - 1, 0)


@dataclass(frozen=True)
class Plan:
    """Where blocks lie.

    Attributes:
      blocks: in the order in which they are first needed.
      offsets: first byte of each block, by name; multiples of 4.
      in_place: name of a block -> name of the one that it is written over.
      into: name of a block -> name of the one that it begins before and is written into.
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
    into: dict[str, str] = field(default_factory=dict)

    def live_at(self, step: int) -> tuple[Block, ...]:
        """The blocks that are live at a step, the largest first."""
        live = [block for block in self.blocks if block.first <= step <= block.last]
        return tuple(sorted(live, key=lambda block: -block.size))


def arrange(
    blocks: Sequence[Block],
    *,
    in_place: Mapping[str, str],
    into: Mapping[str, tuple[str, Rows]] | None = None,
) -> Plan:
    """The smallest arena that was found.

    Args:
      blocks: names are unique.
      in_place: name of a block -> name of the one that it may be written over, whose life ends where its own
        begins.
      into: name of a block -> (name of the one that it may be written into, how), likewise.
    """
    sizes = {block.name: block.size for block in blocks}
    lags = {
        name: (other, rows.lag(sizes[name], sizes[other])) for name, (other, rows) in (into or {}).items()
    }
    steps = range(max((block.last for block in blocks), default=0) + 1)
    live = tuple(_live_bytes(blocks, in_place, lags, step) for step in steps)
    bound = max(live)
    best, best_size = {}, None
    for order in _orders(blocks):
        offsets = _placed(order, in_place, lags)
        size = max((offsets[block.name] + aligned(block.size) for block in blocks), default=0)
        if best_size is None or size < best_size:
            best, best_size = offsets, size
        if size <= bound:
            break
    used = {name: other for name, other in in_place.items() if best[name] == best[other]}
    overlapping = {
        name: other
        for name, (other, _) in lags.items()
        if best[name] < best[other] < best[name] + sizes[name]
    }
    ordered = tuple(sorted(blocks, key=lambda block: (block.first, -block.size, block.name)))
    return Plan(ordered, best, used, best_size or 0, live.index(bound), live, overlapping)


def aligned(size: int) -> int:
    """The next multiple of a word."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def table(plan: Plan) -> str:
    """The plan as text: a line a block, with its first byte, its bytes and its life."""
    width = max(len(name) for name in ("tensor", *plan.offsets))
    lines = [f"{'tensor':<{width}}  offset   bytes  steps"]
    for block in plan.blocks:
        over = f"  over {plan.in_place[block.name]}" if block.name in plan.in_place else ""
        over += f"  into {plan.into[block.name]}" if block.name in plan.into else ""
        lines.append(
            f"{block.name:<{width}}  {plan.offsets[block.name]:>6}  {block.size:>6}  "
            f"{block.first}..{block.last}{over}"
        )
    return "\n".join([*lines, f"{plan.bytes} bytes; the peak is at step {plan.peak}"])


def _live_bytes(blocks, in_place, lags, step):
    """Bytes that no plan can do without at a step."""
    live = {block.name: block for block in blocks if block.first <= step <= block.last}
    saved = 0
    for name, block in live.items():
        other, lag = lags.get(name, ("", 0))
        size = aligned(block.size)
        if block.first != step:
            continue
        if in_place.get(name) in live:
            saved += size
        elif other in live:
            read = aligned(live[other].size)
            saved += size + read - max(read + lag, size)
    return sum(aligned(block.size) for block in live.values()) - saved


def _orders(blocks):
    """The same ones for equal blocks in equal order, whatever they are called."""
    yield sorted(blocks, key=lambda block: (-block.size, block.first))
    yield sorted(blocks, key=lambda block: (block.first - block.last, -block.size))
    yield sorted(blocks, key=lambda block: (block.first, -block.size))
    generator = random.Random(0)
    for _ in range(_TRIES):
        # Sizes that are blurred keep large blocks in front.
        weights = {block.name: block.size * generator.uniform(0.5, 1.5) for block in blocks}
        yield sorted(blocks, key=lambda block, weights=weights: -weights[block.name])


def _placed(order, in_place, lags):
    """First byte of each block; the first of all is 0."""
    offsets, done = {}, []
    low = high = 0
    for block in order:
        neighbours = [other for other in done if other.first <= block.last and block.first <= other.last]
        partners = {
            other.name
            for other in neighbours
            if in_place.get(block.name) == other.name or in_place.get(other.name) == block.name
        }
        # How far it lies behind each of these at least, or in front of them.
        behind = {other.name: lags[other.name][1] for other in neighbours if _goes_into(other, block, lags)}
        before = {other.name: lags[block.name][1] for other in neighbours if _goes_into(block, other, lags)}
        size = aligned(block.size)
        starts = {
            low,
            *(offsets[name] for name in partners),
            *(offsets[name] + lag for name, lag in behind.items()),
            *(offsets[name] - lag for name, lag in before.items()),
            *(offsets[other.name] + aligned(other.size) for other in neighbours),
        }

        def is_free(start, size=size, neighbours=neighbours, same=partners, behind=behind, before=before):
            return all(
                start + size <= offsets[other.name]
                or offsets[other.name] + aligned(other.size) <= start
                or (other.name in same and start == offsets[other.name])
                or (other.name in behind and start >= offsets[other.name] + behind[other.name])
                or (other.name in before and start <= offsets[other.name] - before[other.name])
                for other in neighbours
            )

        # Below 0 only where that makes the arena smaller.
        start = min(
            filter(is_free, starts),
            key=lambda start, size=size, low=low, high=high: (
                max(high, start + size) - min(low, start),
                start,
            ),
        )
        offsets[block.name] = start
        low, high = min(low, start), max(high, start + size)
        done.append(block)
    return {name: offset - low for name, offset in offsets.items()}


def _goes_into(one, other, lags):
    return lags.get(one.name, ("",))[0] == other.name
