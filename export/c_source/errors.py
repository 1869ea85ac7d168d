"""What ends a conversion to C with a sentence."""


class UnsupportedError(ValueError):
    """An operator, a type or a number that the kernels in C do not have; the message names it."""


class BudgetError(ValueError):
    """Activations that do not fit into the RAM that is allowed; the message says what is live at the peak."""
