"""A budget of RAM: which tensors of the C source depend on which layer's bits, measured on files.

How a network becomes steps and stored tensors is `export.c_source`'s to know. So files are written of the
network as it stands, at different choices of bits, and the blocks of their plans are compared. With one
candidate everywhere a file says what a block takes at that one. Further files tell which layer a block
belongs to. Their choices are the binary digits of the layers' numbers: in the k-th file a layer has the
fewest bits if its k-th digit is 1, in the k-th file of a second row if it is 0. A block of one layer has
another size in the files that spell the layer's number. A block of several layers spells none, and counts
as large as it can be.

Programs are stored in the usual ways here, those of files in the ones that take the fewest bytes
(`export.c_source.storing`), so that a file may take less than its choice is said to. Grids are different ones
in every trial file; where two readers of a tensor get equal ones in training, the file takes no more.

>>> costs = costs_in_ram(search, {})
>>> costs.of([1, 1, 1]) < costs.of([0, 0, 0])     # at least the arena of the choice's program
True
"""

from collections.abc import Mapping, Sequence

from absl import logging

from mmx_tf.budget.ram_costs import LiveBlock, RamCosts
from mmx_tf.export.c_source import UnsupportedError, c_source, storing
from mmx_tf.export.c_source.lowering import Lowering
from mmx_tf.export.c_source.planning import blocks_of
from mmx_tf.export.c_source.unpacked_graph import unpacked_graph
from mmx_tf.export.c_source.writer import WEIGHT_BITS
from mmx_tf.metamix import file_bytes
from mmx_tf.metamix.search import SearchModel


def costs_in_ram(search: SearchModel, convert_options: Mapping) -> RamCosts:
    """The arena of the C source as a cost.

    Args:
      search: it is left untouched.
      convert_options: arguments of `mmx_tf.convert` that the file will be made with.

    Raises:
      ValueError: for options that are no mapping, values that `convert` refuses, and a network whose file has
        operators that are not written in C.
      TypeError: for an option that `convert` does not have.
      FoldError: for a network that cannot be exported.
    """
    file_bytes.check_options(convert_options)
    budget = search.budget
    layers, branches = len(budget.searched), len(budget.bit_widths)
    most, fewest = (budget.bit_widths.index(pick(budget.bit_widths)) for pick in (max, min))
    # Weights lie in flash, but the columns that are multiplied with 2-bit ones are padded the most.
    weights = budget.weight_bit_widths.index(min(budget.weight_bit_widths)) * branches
    files = file_bytes.TrialFiles(search, [weights] * layers, convert_options)

    def memory(branch_of: Sequence[int], *, in_full: bool = False) -> "_Memory":
        data = files.with_activation_bits([budget.bit_widths[branch] for branch in branch_of])
        try:
            if in_full:
                c_source(data)  # Refuses what no plan of memory asks for, such as the grid of a softmax.
            return _Memory(storing.usual(Lowering(unpacked_graph(data)), WEIGHT_BITS["packed"]))
        except UnsupportedError as error:
            raise ValueError(f"target_ram counts the RAM of the C source. {error}") from None

    digits = range(layers.bit_length())
    # With tens of layers these take minutes on a slow machine.
    logging.info(
        "budget of RAM: it is measured on %d trial files of %d layers", branches + 2 * len(digits), layers
    )
    everywhere = [memory([branch] * layers, in_full=branch == most) for branch in range(branches)]
    ones, zeros = (
        [memory([fewest if (i + 1 >> k & 1) == digit else most for i in range(layers)]) for k in digits]
        for digit in (1, 0)
    )
    programs = [*everywhere, *ones, *zeros]
    if len({one.outputs for one in programs}) > 1:
        raise ValueError(
            "the steps of the C source depend on the bits, so that its RAM is not told beforehand."
        )
    lives = {key: life for one in programs for key, life in one.lives.items()}
    blocks = []
    for key in sorted(lives):
        sizes = tuple(one.size(key) for one in everywhere)
        layer = _layer(key, everywhere[most], ones, zeros) if len(set(sizes)) > 1 else -1
        if not 0 <= layer < layers:
            layer, sizes = -1, (max(one.size(key) for one in programs),)
        else:
            sizes *= len(budget.weight_bit_widths)
        over = everywhere[most].in_place.get(key)
        narrower = any(
            one.in_place.get(key) == over and one.size(key) < one.size(over)
            for one in programs
            if over is not None
        )
        below = "" if over is None else _name(over)
        into, rows = everywhere[most].into.get(key, (None, None))
        source = "" if into is None else _name(into)
        blocks.append(LiveBlock(_name(key), *lives[key], layer, sizes, below, narrower, source, rows))
    return RamCosts(tuple(blocks), layers, len(budget.pairs))


def _name(key: tuple[int, bool]) -> str:
    step, is_scratch = key
    return f"{'scratch' if is_scratch else 'output'} of step {step}"


class _Memory:
    """Blocks of a program. What they are called depends on what is fused, so a block is known by its step.

    Attributes:
      lives: (first, last step) of each block; the key is the first one, and whether it is scratch memory.
      outputs: the lives of those that are not, which are the same at all bits.
      in_place: key of a block -> key of the one that it may be written over.
      into: key of a block -> key of the one that it may be written into, and how.
    """

    def __init__(self, program):
        blocks, in_place, into = blocks_of(program)
        keys = {block.name: (block.first, block.name.startswith("scratch ")) for block in blocks}
        self.lives = {keys[block.name]: (block.first, block.last) for block in blocks}
        self.outputs = tuple(life for (_, is_scratch), life in self.lives.items() if not is_scratch)
        self.in_place = {keys[name]: keys[other] for name, other in in_place.items()}
        self.into = {keys[name]: (keys[other], rows) for name, (other, rows) in into.items()}
        self._sizes = {keys[block.name]: block.size for block in blocks}

    def size(self, key: tuple[int, bool]) -> int:
        return self._sizes.get(key, 0)


def _layer(key: tuple[int, bool], most: _Memory, ones: Sequence[_Memory], zeros: Sequence[_Memory]) -> int:
    """Index of the layer on whose bits alone a block depends; -1 where it depends on no single layer."""
    shrinks = [[one.size(key) != most.size(key) for one in programs] for programs in (ones, zeros)]
    if any(one == zero for one, zero in zip(*shrinks, strict=True)):
        return -1
    return sum(one << k for k, one in enumerate(shrinks[0])) - 1
