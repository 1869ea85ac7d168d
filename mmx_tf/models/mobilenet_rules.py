"""What the MobileNets have in common: how channels are rounded and strided filters are aligned."""


def make_divisible(filters: float) -> int:
    """The multiple of 8 nearest to `filters`, at least 8 and not more than 10% below it."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded


def stride_two_padding(x, kernel_size: int = 3) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros before and after each axis of x that align a valid stride-2 filter as Keras applications do.

    Args:
        x: image tensor (batch, height, width, channels).
        kernel_size: height and width of the filter, an odd number.
    """
    half = kernel_size // 2
    return tuple((half - 1 + size % 2, half) for size in x.shape[1:3])


def batch_norm_momentum(*, small: bool) -> float:
    """That of Keras applications takes thousands of steps to settle; small images often train for fewer."""
    return 0.9 if small else 0.999
