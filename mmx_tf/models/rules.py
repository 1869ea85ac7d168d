"""What the built-in networks have in common: what they may be asked for, and the rules of the MobileNets.

Arguments are checked before any layer is made.
"""

import numbers

from mmx_tf.choices import NETWORK_VARIANTS
from mmx_tf.errors import ModelError

SMALL_IMAGE_BELOW = 96
MIN_IMAGE_SIZE = 16
"""Pixels: at a reduction by 8, a 3x3 filter of the last stage still sees 2x2 places."""


def check(name: str, *, input_shape: tuple, num_classes: int, width: float, classifier: bool = True) -> None:
    """Check the arguments of `mmx_tf.models.build` for the network `name`.

    Raises:
        ModelError: no (height, width, channels) of at least `MIN_IMAGE_SIZE` pixels, fewer than 2 classes, or
            a width of 0 or less; one output is enough where it is no classifier.
    """
    whole = isinstance(input_shape, tuple | list) and all(
        isinstance(n, numbers.Integral) for n in input_shape
    )
    if not whole or len(input_shape) != 3 or min(input_shape[:2]) < MIN_IMAGE_SIZE or input_shape[2] < 1:
        raise ModelError(
            f"{name} cannot take images of shape {input_shape}; it needs (height, width, channels) "
            f"with height and width of at least {MIN_IMAGE_SIZE} pixels: raise --image_size."
        )
    if not isinstance(num_classes, numbers.Integral) or num_classes < (2 if classifier else 1):
        raise ModelError(f"A classifier needs at least 2 classes, not num_classes={num_classes!r}.")
    if not isinstance(width, numbers.Real) or not width > 0:
        raise ModelError(
            f"The width multiplier must be above 0 (1.0 is the published network), not {width!r}."
        )


def is_small(input_shape: tuple[int, int, int], variant: str = "auto") -> bool:
    """Whether images get the *small-image variant* of a network, which reduces them by 8 in place of 32.

    Raises:
        ModelError: variant is not in `NETWORK_VARIANTS`.
    """
    if variant not in NETWORK_VARIANTS:
        raise ModelError(f"There is no variant {variant!r}; allowed are {', '.join(NETWORK_VARIANTS)}.")
    if variant == "auto":
        return min(input_shape[:2]) < SMALL_IMAGE_BELOW
    return variant == "small_images"


def check_one_variant(name: str, variant: str) -> None:
    """Raises ModelError for a variant of a network that has but one."""
    if variant != "auto":
        raise ModelError(
            f"{name} has one variant for images of every size, not {variant!r}: leave out --network_variant."
        )


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
