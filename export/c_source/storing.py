"""Among the ways in which a program can be stored, one whose plan of memory is the smallest that was found.

    program = smallest(Lowering(graph), (2, 4, 8))
    plan_of(program).bytes

Two layers that read one tensor on equal grids are the reason: their codes are then stored once, and narrow,
which is less by itself, but nothing that narrow can be written over the other operand of the sum that they
come from. Which of both is less depends on what else is live.
"""

import functools
from collections.abc import Sequence

from mmx_tf.export.c_source.emitting_windows import scratch_bytes
from mmx_tf.export.c_source.lowering import Lowering
from mmx_tf.export.c_source.planning import plan_of
from mmx_tf.export.c_source.program import Program, Way


def smallest(lowering: Lowering, weight_bits: Sequence[int]) -> Program:
    """A program that takes no more RAM than the usual one, nor than the one with all other ways.

    Other ways spend instructions, so each is taken only where the plan is larger without it.

    Args:
      weight_bits: the widths in which weights may be stored, on which scratch memory depends.

    Raises:
      UnsupportedError: the file has what the kernels in C do not have.
    """
    program_of = functools.cache(lambda ways: usual(lowering, weight_bits, ways=ways))
    size = functools.cache(lambda ways: plan_of(program_of(ways)).bytes)
    taken, every = frozenset(), frozenset()
    # One way may bring about others.
    while not program_of(every).other_ways <= every:
        every |= program_of(every).other_ways
    if size(every) < size(taken):
        taken = every
        for way in sorted(every):
            if size(taken - {way}) <= size(taken):
                taken -= {way}
    for way in sorted(every - taken):
        if size(taken | {way}) < size(taken):
            taken |= {way}
    return program_of(taken)


def usual(lowering: Lowering, weight_bits: Sequence[int], *, ways: frozenset[Way] = frozenset()) -> Program:
    """A program whose steps know their numbers and their scratch memory; arguments as of `smallest`."""
    program = lowering.program(ways)
    for number, step in enumerate(program.steps):
        step.number, step.scratch = number, scratch_bytes(step, tuple(weight_bits))
    return program
