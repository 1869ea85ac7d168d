"""What ends a conversion to QONNX with a sentence."""


class UnsupportedError(ValueError):
    """An operator, a type or a number that QONNX has no exact form for here; the message names it."""


class MissingPackageError(ImportError):
    """A package of the extra `fpga` is not installed; the message names it and says how to get it."""


def refused(operator, reason: str) -> UnsupportedError:
    """The error for an operator, which it names."""
    return UnsupportedError(f"operator {operator.index} ({operator.kind}) {reason}.")
