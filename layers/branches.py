"""How a quantizer with several branches runs: one of them, or a mix of all by softmax(alpha)."""

from collections.abc import Callable, Sequence

import tensorflow as tf

MIXED = "mixed"
"""Value of `branch` that asks for the softmax(alpha)-weighted mix of all branches."""
JOINT = "joint"
"""The same mix for searches that train weights and step sizes on it, which MetaMix does not; slower."""


def run(branch, alpha, settings: Sequence[tuple], *, single: Callable, mixed: Callable) -> tf.Tensor:
    """What a quantizer makes of its input.

    Args:
      branch: index of a branch (integer or scalar integer tensor), `MIXED`, `JOINT`, or None for the branch
        with the largest alpha.
      alpha: (B,) tensor; None where `branch` is an index.
      settings: B tuples of numbers: what `single` needs of each branch beside its index.
      single: (index, settings of that branch) -> its result.
      mixed: () -> the mix, with a gradient for alpha alone.

    Raises:
      ValueError: if `branch` is not one of these, or needs an alpha that is not given.
    """
    if alpha is None and (branch is None or isinstance(branch, str) and branch in (MIXED, JOINT)):
        raise ValueError(f"branch={branch!r} needs alpha, the architectural parameters of the branches.")
    if isinstance(branch, str) and branch == MIXED:
        return mixed()
    if isinstance(branch, str) and branch == JOINT:
        shares = zip(tf.unstack(tf.nn.softmax(alpha)), settings, strict=True)
        return tf.add_n([share * single(index, values) for index, (share, values) in enumerate(shares)])
    if branch is None:
        branch = tf.argmax(alpha)
    if tf.is_tensor(branch):
        return single(branch, tf.unstack(tf.gather(tf.convert_to_tensor(settings, tf.float32), branch)))
    if branch in range(len(settings)):
        return single(branch, settings[branch])
    raise ValueError(
        f"branch={branch!r}: give an index in 0..{len(settings) - 1}, {MIXED!r}, {JOINT!r}, or None."
    )
