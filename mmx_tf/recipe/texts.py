"""The texts of a recipe's flags that are more than one number or word, and how a value is refused.

>>> parse_bops("5.3G"), parse_candidate_bits("8,4,3"), parse_weight_bits("4")
(5300000000, (8, 4, 3), 4)
"""

import math
import re
import typing
from decimal import Decimal

from mmx_tf.errors import RecipeError
from mmx_tf.notation import UNITS

CANDIDATE_BITS = tuple(range(2, 9))
WEIGHT_BITS = (8, 4, 3, 2)
_MILLISECONDS = {"us": Decimal("0.001"), "ms": Decimal(1), "": Decimal(1), "s": Decimal(1000)}


def refuse(name: str, value, allowed: str, advice: str = "") -> typing.NoReturn:
    """Raises a `RecipeError` that names flag, value and what is allowed."""
    raise RecipeError(f"--{name}={value} is not allowed; allowed: {allowed}.{advice}")


def parse_bops(text: str, *, flag: str = "target_bops") -> int:
    """Read a number of bit operations: '5.3G', '800M', '5.3e9' or '5300000000'; `flag` is for the error.

    Raises:
        RecipeError: `text` is not such a number, or is not above zero.
    """
    return _parse_number(text, flag, "bit operations", "5.3G, 800M, 5.3e9 or 5300000000")


def parse_bytes(text: str, *, flag: str = "target_bytes") -> int:
    """Read a number of bytes: '2.9M', '500k' (thousands) or '2900000'; `flag` is for the error.

    Raises:
        RecipeError: `text` is not such a number, or is not above zero.
    """
    return _parse_number(text, flag, "bytes", "2.9M, 500k, 2.9e6 or 2900000")


def parse_milliseconds(text: str, *, flag: str = "target_latency") -> float:
    """Read a time in milliseconds: '2ms' -> 2.0, '150us' -> 0.15, '0.01s' -> 10.0, '2' -> 2.0.

    Raises:
        RecipeError: `text` is not such a time, or is not above zero.
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*(?:e[+-]?\d{1,2})?)\s*(us|ms|s|)\s*", text, re.IGNORECASE)
    value = float(Decimal(match[1]) * _MILLISECONDS[match[2].lower()]) if match else 0.0
    if not 0 < value < math.inf:
        raise RecipeError(
            f"--{flag}={text} is not a time; write a number above 0 with us, ms or s behind it, such as 2ms "
            "or 150us; a number alone is milliseconds."
        )
    return value


def parse_average_bits(text: str) -> float:
    """Read one number of bits, '4' or '3.5'; an empty text is 0, no such budget.

    Raises:
        RecipeError: `text` is not one number.
    """
    try:
        return float(text or 0)
    except ValueError:
        several = " Several budgets of one search are given in operations: --target_bops=5.3G,4.5G."
        refuse("target_average_bits", text, "one number of bits, such as 4", several if "," in text else "")


def parse_names(text: str) -> tuple[str, ...]:
    """Read names between commas: 'int8, uniform' -> ('int8', 'uniform'); () for an empty text."""
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


def parse_pixel_scaling(text: str) -> tuple[float, float] | tuple[()]:
    """Read --pixel_scaling: '1/255,0' -> (1 / 255, 0.0); () for an empty text.

    Raises:
        RecipeError: no two numbers or fractions, a scale that is not above 0, or 0 is the value of no pixel.
    """
    if not text.strip():
        return ()
    try:
        scale, offset = map(_fraction, text.split(","))
    except (ValueError, ZeroDivisionError):
        scale = offset = 0.0
    if not (0 < scale < math.inf and -255.5 < offset / scale < 0.5):
        refuse(
            "pixel_scaling",
            text,
            "two numbers or fractions, scale,offset, with a scale above 0 and an offset of -255 to 0 times "
            "the "
            "scale, so that one of the pixels 0..255 stands for 0, such as 1/127.5,-1 or 1/255,0",
        )
    return scale, offset


def _fraction(text: str) -> float:
    above, _, below = text.partition("/")
    return float(above) / float(below or 1)


def _parse_number(text: str, flag: str, what: str, examples: str) -> int:
    match = re.fullmatch(r"\s*(\d+\.?\d*(?:e[+-]?\d{1,2})?)\s*([KMGT]?)\s*", text, re.IGNORECASE)
    value = int(Decimal(match[1]) * UNITS[match[2].upper()]) if match else 0
    if value <= 0:
        raise RecipeError(
            f"--{flag}={text} is not a number of {what}; write a number above 0, alone or with "
            f"K, M, G or T behind it, such as {examples}."
        )
    return value


def parse_candidate_bits(text: str) -> tuple[int, ...]:
    """Read candidate bit-widths: '8,4,3' -> (8, 4, 3), in the given order.

    Raises:
        RecipeError: no distinct integers in 2..8.
    """
    try:
        bits = tuple(int(part) for part in text.split(","))
    except ValueError:
        bits = ()
    if not bits or len(set(bits)) < len(bits) or not set(bits) <= set(CANDIDATE_BITS):
        raise RecipeError(
            f"--candidate_bits={text} is not a set of candidate activation bit-widths; give "
            f"distinct integers out of {', '.join(map(str, CANDIDATE_BITS))}, separated by commas, such as "
            "8,4,3."
        )
    return bits


def parse_weight_bits(text: str) -> int | tuple[int, ...]:
    """Read weight bits: '4' -> 4, and candidates '8,4,2' -> (8, 4, 2), in the given order.

    Raises:
        RecipeError: neither one of `WEIGHT_BITS` nor several distinct integers in 2..8.
    """
    try:
        bits = tuple(int(part) for part in text.split(","))
    except ValueError:
        bits = ()
    one = len(bits) == 1 and bits[0] in WEIGHT_BITS
    if not one and (len(bits) < 2 or len(set(bits)) < len(bits) or not set(bits) <= set(CANDIDATE_BITS)):
        refuse(
            "weight_bits",
            text,
            f"{', '.join(map(str, WEIGHT_BITS))}, or, to let the search choose, two or more distinct ones of "
            f"{', '.join(map(str, CANDIDATE_BITS))}, separated by commas, such as 8,4,2",
        )
    return bits[0] if one else bits
