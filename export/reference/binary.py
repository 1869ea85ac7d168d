"""ADD, SUB and MUL of two tensors on their own grids, broadcast like numpy.

    codes = add(operator, [left, right], "xnnpack")        # int8

TFLite's optimized ADD and MUL work in vectors, along runs of numbers that neither input repeats (`Run.of`),
and finish in 16 bits there: numbers beyond them wrap (ADD), or saturate before the zero point is added (MUL).
What is left behind the vectors follows the reference kernels, as does SUB.
"""

from dataclasses import dataclass

import numpy as np

from mmx_tf.export.reference import rounding
from mmx_tf.export.reference.bounds import activation_bounds, saturate
from mmx_tf.export.reference.kernels import between, computes

# Fractional bits of an addition: of XNNPACK's multipliers, and of TFLite's common grid.
XNNPACK_ADD_BITS, ADD_SHIFT = 20, 20
LANES, SCALAR_LANES = 16, 8


@dataclass(frozen=True)
class Run:
    """How an optimized kernel goes through a result: in runs of `length`, 0 for one by one.

    scalar: one of the inputs stays the same along a run.
    """

    length: int
    scalar: bool

    @classmethod
    def of(cls, left, right):
        """The run for two shapes, by TFLite's broadcasting in five nested loops."""
        rank = max(len(left), len(right))
        left, right = ((1,) * (rank - len(shape)) + tuple(shape) for shape in (left, right))
        if left == right:
            return cls(int(np.prod(left)), False)
        pairs = list(zip(left, right, strict=True))[::-1]
        if next(pair for pair in pairs if pair[0] != pair[1])[1] == 1:
            pairs = [pair[::-1] for pair in pairs]
        # Now the first of a pair is the input that repeats in the innermost loop that repeats one.
        lengths = []
        for belongs in (_equal, _first_repeats, _equal, _second_repeats, _equal):
            lengths.append(1)
            while pairs and belongs(*pairs[0]):
                lengths[-1] *= max(pairs.pop(0))
        if pairs:
            return cls(0, False)
        return cls(lengths[0], False) if lengths[0] > 1 else cls(lengths[1], True)

    def apply(self, values, lanes, vectorized, leftover):
        """`rounding.in_lanes` along the runs."""
        if self.length == 0:
            return leftover(values)
        runs = values.reshape(-1, self.length)
        return rounding.in_lanes(runs, lanes, vectorized, leftover, axis=-1).reshape(values.shape)


def _equal(first, second):
    return first == second


def _first_repeats(first, second):
    return first == 1


def _second_repeats(first, second):
    return second == 1


def _summed(operator):
    target = operator.outputs[0]
    return all(between(tensor.scale / target.scale, 2.0**-10, 2.0**8) for tensor in operator.inputs)


def _multiplied(operator):
    (first, second), target = operator.inputs, operator.outputs[0]
    return between(first.scale * second.scale / target.scale, 2.0**-16, 2.0**8)


@computes("ADD", in_xnnpack=_summed)
def add(operator, inputs, rules):
    """ADD: s_a * (a - z_a) + s_b * (b - z_b) on the output grid."""
    return _sum(operator, inputs, rules, 1)


@computes("SUB", in_xnnpack=_summed)
def subtract(operator, inputs, rules):
    """SUB: s_a * (a - z_a) - s_b * (b - z_b) on the output grid."""
    return _sum(operator, inputs, rules, -1)


def _sum(operator, inputs, rules, sign):
    (first, second), target = operator.inputs, operator.outputs[0]
    left, right = _shifted(operator, inputs)
    if rules == "xnnpack":
        # Two multipliers of 21 bits with one shift, taken from the larger ratio; halves up.
        ratios = np.array([first.scale / target.scale, second.scale / target.scale], np.float32)
        shift = XNNPACK_ADD_BITS - (int(np.frexp(ratios.max())[1]) - 1)
        one, other = np.rint(np.ldexp(ratios.astype(np.float64), shift)).astype(np.int64)
        values = (left * one + sign * right * other + (1 << (shift - 1))) >> shift
        return saturate(values + target.zero_point, activation_bounds(operator, rules))
    run = Run.of(inputs[0].shape, inputs[1].shape)
    if rules != "builtin" or operator.kind != "ADD":
        run = Run(0, False)
    # Both terms on a grid 2^20 times finer than twice the coarser input, each rounded there.
    twice = 2 * np.float64(max(first.scale, second.scale))
    terms = [
        _fine_term(codes, *rounding.fixed_point(tensor.scale / twice), run)
        for codes, tensor in ((left, first), (right, second))
    ]
    ratio = twice / (2**ADD_SHIFT * np.float64(target.scale))
    values = rounding.double_rounding_away(terms[0] + sign * terms[1], *rounding.fixed_point(ratio))
    lanes = SCALAR_LANES if run.scalar else LANES
    values = run.apply(
        values,
        lanes,
        lambda numbers: _wrap_int16(_wrap_int16(numbers) + target.zero_point),
        lambda numbers: numbers + target.zero_point,
    )
    return saturate(values, activation_bounds(operator, rules))


def _fine_term(codes, mantissa, exponent, run):
    def leftover(values):
        return rounding.double_rounding_away(values << ADD_SHIFT, mantissa, exponent)

    def vectorized(values):
        # One left shift by what remains of both, so that there is one rounding less.
        return rounding.doubling_high_multiply(_shift(values, ADD_SHIFT + exponent), mantissa)

    def scalar(values):
        # The right shift truncates.
        return _shift(rounding.doubling_high_multiply(values << ADD_SHIFT, mantissa), exponent)

    if run.scalar:
        return run.apply(codes, SCALAR_LANES, scalar, leftover)
    return run.apply(codes, LANES, vectorized, leftover)


@computes("MUL", in_xnnpack=_multiplied)
def multiply(operator, inputs, rules):
    """MUL: the product of the shifted codes times float32(s_a * s_b / s_out)."""
    (first, second), target = operator.inputs, operator.outputs[0]
    left, right = _shifted(operator, inputs)
    multiplier = first.scale * second.scale / target.scale
    if rules == "xnnpack":
        values = rounding.scale_half_even(left * right, multiplier) + target.zero_point
    else:
        values = rounding.double_rounding_away(left * right, *rounding.fixed_point(multiplier))
        run = Run.of(inputs[0].shape, inputs[1].shape) if rules == "builtin" else Run(0, False)
        values = run.apply(
            values,
            LANES,
            lambda numbers: _wrap_int16(np.clip(numbers, -(2**15), 2**15 - 1) + target.zero_point),
            lambda numbers: numbers + target.zero_point,
        )
    return saturate(values, activation_bounds(operator, rules))


def _shifted(operator, inputs):
    """Both inputs without their zero points, broadcast to one shape, int64."""
    return np.broadcast_arrays(
        *(
            codes.astype(np.int64) - tensor.zero_point
            for tensor, codes in zip(operator.inputs, inputs, strict=True)
        )
    )


def _shift(values, bits):
    return values << bits if bits >= 0 else values >> -bits


def _wrap_int16(values):
    return values.astype(np.int16).astype(np.int64)
