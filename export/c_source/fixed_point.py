"""Integer multipliers that round exactly as XNNPACK's float32 products do, proved code by code.

    found = multipliers(reals, lowest, highest, bounds)    # None where no multipliers exist
    found.mantissas, found.fits, found.shift, found.scale
    code = ((sum * scale * mantissa >> 32) + 2^(shift - 1)) >> shift

XNNPACK computes rint(float32(sum) * multiplier). As a function of the sum that is a staircase, and so is the
integer form; both are equal if and only if they climb to each code at the same sum. `thresholds` finds those
of the first, which bound the multiplier from below and from above, and the one in the middle is tried on all
of them: a float32 product that rounds to a half needs another multiplier than the nearest. Some real
multipliers have none: near a fraction of a small denominator such products are at every few codes, and are
rounded to even, down at one and up at the next. Only codes between the bounds count, since all others
saturate, and only sums that weights and the range of the inputs allow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmx_tf.export.reference.rounding import scale_half_even

# What is added for the zero point is shifted as far, and is an int32 too.
_HIGHEST_SHIFT = 20
_INT32 = 2**31


@dataclass(frozen=True)
class Multipliers:
    """Integers in the place of real multipliers.

    Attributes:
      mantissas: int64 [channels], below 2^31.
      fits: bool [channels], whether it is one that rounds as it has to.
      shift: of the upper half of the product, 1 to 20.
      scale: a power of two by which sums are multiplied beforehand.
    """

    mantissas: np.ndarray
    fits: np.ndarray
    shift: int
    scale: int


def thresholds(function: Callable, lowest: np.ndarray, highest: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The smallest sum at which a function that never falls reaches each code.

    Args:
      function: int64 [channels, codes] -> integers of that shape.
      lowest, highest: int64 [channels], the sums that there are.
      codes: int64 [codes].

    Returns:
      int64 [channels, codes]; highest + 1 where no sum reaches the code.
    """
    shape = (len(lowest), len(codes))
    low = np.broadcast_to(lowest[:, None], shape).astype(np.int64)
    high = np.broadcast_to(highest[:, None] + 1, shape).astype(np.int64)
    while (low < high).any():
        middle = (low + high) // 2
        reached = function(middle) >= codes
        low, high = np.where(reached, low, np.minimum(middle + 1, high)), np.where(reached, middle, high)
    return low


def multipliers(
    reals: np.ndarray,
    lowest: np.ndarray,
    highest: np.ndarray,
    bounds: tuple[int, int],
    *,
    exact: Callable | None = None,
) -> Multipliers | None:
    """Integers that give the codes of `scale_half_even(sum, reals)` between the bounds; None if none do.

    Args:
      reals: float32 [channels], above 0.
      lowest, highest: int64 [channels], the smallest and the largest sum.
      bounds: the lowest and the highest code, before a zero point is added.
      exact: the staircase, where it is another one than that of `scale_half_even`.
    """
    if exact is None:

        def exact(sums):
            return scale_half_even(sums, reals[:, None])

    codes = np.arange(bounds[0] + 1, bounds[1] + 1)
    climbs = thresholds(exact, lowest, highest, codes)
    exponent = int(np.frexp(reals.astype(np.float64).max())[1])
    # A shift of at least 1, so that its highest bit lost can be rounded.
    doublings = max(exponent + 2, 0)
    scale, shift = 2**doublings, min(doublings - exponent - 1, _HIGHEST_SHIFT)
    if scale * int(max(-lowest.min(), highest.max())) >= _INT32:
        return None
    mantissas = _mantissas(shift, scale, climbs, codes, lowest, highest)
    fits = _same_stairs(mantissas, shift, scale, climbs, codes, lowest, highest)
    fits &= (mantissas > 0) & (mantissas < _INT32)
    return Multipliers(mantissas, fits, shift, scale) if fits.any() else None


def _mantissas(shift, scale, climbs, codes, lowest, highest):
    """The middle of the mantissas with which every climb is where it has to be."""
    # A product of that size is rounded to the code; a climb reaches it, and the sum in front of it does not.
    needed = (codes - 0.5) * 2.0 ** (32 + shift) / scale
    least, most = np.ones(len(climbs)), np.full(len(climbs), _INT32 - 1.0)
    for sums, seen, reaching in (
        (climbs, climbs <= highest[:, None], True),
        (climbs - 1, climbs > lowest[:, None], False),
    ):
        with np.errstate(divide="ignore", invalid="ignore"):
            quotients = needed / sums
        for sign in (1, -1):
            concerned = seen & (np.sign(sums) == sign)
            if reaching == (sign > 0):
                least = np.maximum(
                    least, np.where(concerned, quotients, -np.inf).max(axis=1, initial=-np.inf)
                )
            else:
                most = np.minimum(most, np.where(concerned, quotients, np.inf).min(axis=1, initial=np.inf))
    return np.rint((least + most) / 2).astype(np.int64)


def integer_code(sums: np.ndarray, mantissas: np.ndarray, shift: int) -> np.ndarray:
    """What the C kernels compute of int64 sums, before the offset."""
    return (sums * mantissas + (np.int64(1) << (31 + shift))) >> (32 + shift)


def _same_stairs(mantissas, shift, scale, climbs, codes, lowest, highest):
    mantissas = mantissas[:, None]
    reaches = integer_code(climbs * scale, mantissas, shift) >= codes
    before = integer_code((climbs - 1) * scale, mantissas, shift) < codes
    # A climb in front of the first sum, or behind the last, is one that nobody sees.
    return ((reaches | (climbs > highest[:, None])) & (before | (climbs <= lowest[:, None]))).all(axis=1)
