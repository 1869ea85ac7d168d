"""Weights as the kernels in C take them: divided by what they have in common, in words.

A file of int8 storage holds 4-bit weights 18 times larger (`layers.integer.storage`). Divided by their
greatest common divisor they fit into 4 bits again, and the accumulator is multiplied by it, which changes
nothing.

    packed = pack(weights, bits=(2, 4, 8))              # weights: [filters, taps and channels]
    packed.bits, packed.factor                          # 4, 18
    words(packed, column_bits=4)                        # uint32 [filters, words]

A word holds pairs of weights, each at the same place of both halves, so that a shift and a mask unpack them.
Which elements are a pair follows from how the column is unpacked, whose elements lie in their order. The
first of a pair is in the upper half, for SMLADX, and for cores without it: a plain product of codes (a, b)
and weights (c, d) has ac + bd in its upper half if they are crossed. 8-bit weights for 8-bit columns, whose
products do not fit into 16 bits, lie in their order instead. Weights of 8 bits and of depthwise layers have
their signs; the others are stored as code + 2^(bits - 1), since a mask knows no sign.
"""

from dataclasses import dataclass

import numpy as np

GROUP = 8
"""Elements that the kernels multiply at once."""
_PAIRS = {4: ((0, 4), (1, 5), (2, 6), (3, 7)), 8: ((0, 2), (1, 3), (4, 6), (5, 7))}


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights in whole units.

    Attributes:
      codes: int64, of the shape given, from -2^(bits - 1) to 2^(bits - 1) - 1.
      bits: of a weight.
      factor: what they were divided by.
    """

    codes: np.ndarray
    bits: int
    factor: int


def pack(weights: np.ndarray, *, bits: tuple[int, ...]) -> Weights:
    """int8 weights -> the narrowest of these widths that holds them; 8 must be among them."""
    codes = weights.astype(np.int64)
    factor = max(int(np.gcd.reduce(codes.reshape(-1))), 1)
    for width in sorted(bits):
        units = codes // factor
        if width < 8 and units.min() >= -(2 ** (width - 1)) and units.max() < 2 ** (width - 1):
            return Weights(units, width, factor)
    return Weights(codes, 8, 1)


def padded_length(length: int, bits: int) -> int:
    """Elements of a filter in whole groups; of 2-bit weights a word holds two groups."""
    unit = 2 * GROUP if bits == 2 else GROUP
    return -(-length // unit) * unit


def words(weights: Weights, *, column_bits: int, groups: int) -> np.ndarray:
    """uint32 [words]: the filters for columns of 4-bit or 8-bit slots, two at a time.

    The words of two filters alternate; behind the last filter of a group of an odd number is one of zeros.
    """
    filters, length = weights.codes.shape
    own, padded_filters = filters // groups, -(-filters // groups // 2) * 2
    padded = np.zeros((groups, padded_filters, padded_length(length, weights.bits)), np.int64)
    padded[:, :own, :length] = weights.codes.reshape(groups, own, length)
    found = _words(padded.reshape(-1, padded.shape[2]), weights.bits, column_bits)
    return found.reshape(-1, 2, found.shape[1]).transpose(0, 2, 1)


def by_channel(weights: Weights) -> np.ndarray:
    """uint32 [words]: [taps, channels] in slots one after the other, for the depthwise kernel."""
    values = weights.codes.reshape(-1)
    per_word = 32 // weights.bits
    padded = np.zeros(-(-len(values) // per_word) * per_word, np.int64)
    padded[: len(values)] = values
    return _joined(padded.reshape(-1, per_word), weights.bits)


def _words(padded, bits, column_bits):
    pairs = _PAIRS[column_bits]
    groups = padded.reshape(len(padded), -1, GROUP)
    firsts, seconds = groups[..., [a for a, _ in pairs]], groups[..., [b for _, b in pairs]]
    # A word has two pairs of 8 bits, four of 4, eight of 2.
    halves = [half.reshape(-1, 16 // bits) for half in (seconds, firsts)]
    if bits == column_bits == 8:
        halves.reverse()
    slots = np.concatenate(halves, axis=1)
    return _joined(slots + zero_of(bits), bits).reshape(len(padded), -1)


def zero_of(bits: int) -> int:
    """What is added to the weights of a convolution before they are stored."""
    return 0 if bits == 8 else 1 << bits - 1


def _joined(slots, bits):
    shifts = np.arange(0, 32, bits, dtype=np.int64)
    return ((slots & (1 << bits) - 1) << shifts).sum(axis=-1).astype(np.uint32)
