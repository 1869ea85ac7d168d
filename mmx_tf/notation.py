"""Numbers of bit operations as text.

>>> short_bops(4_500_000_000), format_bops(4_500_000_000)
('4.5G', '4.50 GBOPs')
"""

from decimal import Decimal

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def short_bops(bops: int) -> str:
    """The shortest text that `recipe.parse_bops` reads back: 4500000000 -> '4.5G', 332287 -> '332.287K'."""
    unit, factor = next(((u, f) for u, f in reversed(UNITS.items()) if bops >= f), ("", 1))
    return f"{(Decimal(bops) / factor).normalize():f}{unit}"


def target_folder(bops: int) -> str:
    """Name of a target's folder in the workdir of a run with several: 4500000000 -> 'target_4.5G'."""
    return f"target_{short_bops(bops)}"


def format_bops(bops: float) -> str:
    """Write a number of bit operations for people: 5300000000 -> '5.30 GBOPs'."""
    for unit in "GMK":
        if bops >= UNITS[unit]:
            return f"{bops / UNITS[unit]:.2f} {unit}BOPs"
    return f"{bops:.0f} BOPs"
