"""Bit operations on one image: MACs * weight bits * activation bits, as the paper counts them."""

from collections.abc import Sequence

from mmx_tf.recipe import budgets


class Kind(budgets.Kind):
    """One number, or several that are searched on one meta-state."""

    text = (
        "budget in bit operations on one image; a list has one search for each of its budgets, on one "
        "meta-state."
    )
    example = "5.3e9"
    listed = True
    in_bops = True
    annotation = float | Sequence[float] | None

    def targets(self, asked, free) -> tuple[int, ...]:
        """Whole numbers of operations."""
        value = asked.target_bops
        return tuple(map(int, value if isinstance(value, list | tuple) else (value,)))
