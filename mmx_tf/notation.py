"""Numbers as people write them: bit operations, decimal prefixes, shares, durations.

>>> short_bops(4_500_000_000), percent(0.99999), duration(3725), amount([40.1e6, 61e6], "BOPs")
('4.5G', '>99.99%', '1 h 02 min', '40.1/61.0 MBOPs')
"""

import math
from collections.abc import Sequence
from decimal import Decimal

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def short_bops(bops: int) -> str:
    """The shortest text that `recipe.parse_bops` reads back: 4500000000 -> '4.5G', 332287 -> '332.287K'."""
    unit, factor = next(((u, f) for u, f in reversed(UNITS.items()) if bops >= f), ("", 1))
    return f"{(Decimal(bops) / factor).normalize():f}{unit}"


def target_folder(bops: int) -> str:
    """Name of a target's folder in the workdir of a run with several: 4500000000 -> 'target_4.5G'."""
    return f"target_{short_bops(bops)}"


def si(value: float) -> str:
    """`value` with four significant digits and a decimal prefix: 5394053120 -> '5.394 G', 96 -> '96 '."""
    factor, prefix = prefix_of(value)
    if factor == 1:
        return f"{value:.4g} "
    scaled = abs(value) / factor
    decimals = 3 - sum(scaled >= ten * 0.99995 for ten in (10, 100, 1000))
    return f"{value / factor:.{decimals}f} {prefix}"


def prefix_of(value: float) -> tuple[float, str]:
    """The decimal prefix that suits `value` and its factor: 5394053120 -> (1e9, 'G')."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor * 0.99995:
            return factor, prefix
    return 1, ""


def amount(values: Sequence[float], unit: str) -> str:
    """Values in a unit, (40.1e6, 61e6) BOPs -> '40.1/61.0 MBOPs', 24600 bytes -> '24.6 kB'."""
    counted, short = unit.partition(" ")[0], unit.partition(",")[0]
    factor, prefix = 1.0, ""
    if counted in ("BOPs", "bytes"):
        factor, prefix = prefix_of(max(map(abs, values)))
        short = short.replace("bytes", "B", 1) if prefix else short
    texts = [f"{value / factor:.{_decimals(value / factor)}f}" for value in values]
    return f"{'/'.join(texts)} {prefix}{short}"


def _decimals(value: float) -> int:
    return 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0


def percent(fraction: float) -> str:
    """`fraction` as a percentage that never rounds up to a claim: 0.99999 -> '>99.99%', not '100%'."""
    if math.isnan(fraction):
        return "not a number"
    if fraction in (0, 1):
        return f"{100 * fraction:.0f}%"
    if 0 < fraction < 0.0001:
        return "<0.01%"
    if 0.9999 < fraction < 1:
        return ">99.99%"
    return f"{100 * fraction:.2f}%"


def duration(seconds: float) -> str:
    """`seconds` in the two largest units that matter: 3725 -> '1 h 02 min'."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def some(names: Sequence[str], most: int = 3) -> str:
    """The first of some names: ('a', 'b', 'c', 'd') -> 'a, b, c, ...'."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
