"""How steps turn accumulators into slot codes: multipliers, offsets, clips and tables of the C kernels.

output = Stage(zero_point, codes, table, base)      # base: of the slots that are written
output.fields()                                     # {"offset": 0, "low": 0, "high": 15}
"""

import numpy as np

from mmx_tf.export.c_source.fixed_point import multipliers
from mmx_tf.export.reference.binary import XNNPACK_ADD_BITS

INT32 = 2**31


class Stage:
    """The last part of an operator: add a zero point, clip, look up, and count from the base of the slots.

    Args:
      zero_point: of the operator's output.
      codes: (lowest, highest) code of that output.
      table: [highest - lowest + 1] the code that is stored for each, or None.
      base: the lowest code of the slots.
    """

    def __init__(self, zero_point, codes, table, base):
        low, high = codes
        values = np.arange(low, high + 1) if table is None else table.astype(np.int64)
        shift = self._shift(values, low)
        self.table = None if shift is not None else (values - base).astype(np.uint8)
        if shift is not None:
            self.offset = zero_point + shift - base
            self.low, self.high = int(values[0]) - base, int(values[-1]) - base
        else:
            self.offset, self.low, self.high = zero_point - low, 0, high - low

    @staticmethod
    def _shift(values, low):
        """d of a table that is clip(code + d, first, last); None for any other."""
        codes = low + np.arange(len(values))
        inner = np.flatnonzero((values > values.min()) & (values < values.max()))
        places = inner if len(inner) else np.flatnonzero(values == values.max())[:1]
        shift = int(values[places[0]] - codes[places[0]])
        same = np.array_equal(values, np.clip(codes + shift, values[0], values[-1]))
        return shift if same and values[0] <= values[-1] else None

    def fields(self):
        """Its members of the C structure of an addition."""
        return {"offset": self.offset, "low": self.low, "high": self.high}

    def shifted_fields(self, shift):
        """Its members of an mmx_output: the offset, and a half, as what is added before the shift."""
        rounding = (self.offset << shift) + (1 << shift >> 1)
        return {"rounding": rounding, "low": self.low, "high": self.high}


def weighted_multipliers(operator, codes, lowest, highest):
    """(Multipliers or None, float32 [channels]) of a convolution or dense layer, by the range of its sums."""
    source, weights, target = operator.inputs[0], operator.inputs[1], operator.outputs[0]
    reals = np.broadcast_to(source.scale * weights.scales / target.scale, lowest.shape).astype(np.float32)
    bounds = (codes[0] - target.zero_point, codes[1] - target.zero_point)
    return multipliers(reals, lowest, highest, bounds), reals


def product_multipliers(operator, codes, lowest, highest):
    """The same of a MUL, for its one multiplier; lowest, highest: of the products."""
    (first, second), target = operator.inputs, operator.outputs[0]
    reals = np.array([first.scale * second.scale / target.scale], np.float32)
    bounds = (codes[0] - target.zero_point, codes[1] - target.zero_point)
    return multipliers(reals, np.array([lowest]), np.array([highest]), bounds), reals


def mean_multipliers(operator, codes, lowest, highest, count):
    """(Multipliers or None, [scale, offset]) of a MEAN; lowest, highest: of sums without zero points."""
    source, target = operator.inputs[0], operator.outputs[0]
    scale = source.scale / target.scale * (np.float32(1) / np.float32(count))
    offset = np.float32(target.zero_point) - np.float32(count * source.zero_point) * scale

    def exact(sums):
        raw = (sums + count * source.zero_point).astype(np.float32)
        return np.rint(raw * scale + offset) - target.zero_point

    bounds = (codes[0] - target.zero_point, codes[1] - target.zero_point)
    reals = np.array([scale], np.float32)
    found = multipliers(reals, np.array([lowest]), np.array([highest]), bounds, exact=exact)
    return found, np.array([scale, offset], np.float32)


def addition_fields(operator, own, own_base, other_base):
    """Members of the C structure of an ADD or SUB, but for its stage: own, other, constant, shift.

    Args:
      own: which input is computed, 0 or 1.
      own_base, other_base: the codes of slot code 0.
    """
    target = operator.outputs[0]
    ratios = np.array([tensor.scale / target.scale for tensor in operator.inputs], np.float32)
    shift = XNNPACK_ADD_BITS - (int(np.frexp(ratios.max())[1]) - 1)
    factors = [int(factor) for factor in np.rint(np.ldexp(ratios.astype(np.float64), shift))]
    if operator.kind == "SUB":
        factors[1] = -factors[1]
    bases = [own_base, other_base] if own == 0 else [other_base, own_base]
    constant = 1 << (shift - 1)
    for factor, base, tensor in zip(factors, bases, operator.inputs, strict=True):
        constant += factor * (base - tensor.zero_point)
    return {"own": factors[own], "other": factors[1 - own], "constant": constant, "shift": shift}
