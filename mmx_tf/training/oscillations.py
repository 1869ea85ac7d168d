"""Dampening of weights that oscillate between two codes (Nagel et al. 2022, arXiv 2203.11086, section 4.2).

In training at few bits many weights w end up at the border of two codes and jump from one to the other with
every step, which batch norm's statistics cannot follow. With the weight's step size s, codes n..p and
w_hat = s * clip(round(w / s), n, p) the loss gets a term that pulls weights to the middle of their bins:

    L = L_task + lambda(t) * || w_hat - clip(w, s n, s p) ||^2        summed over the kernels
    dL / dw = dL_task / dw + lambda(t) * 2 (w - w_hat)  where n <= w / s <= p, and dL_task / dw elsewhere

No gradient goes into w_hat, nor, here, into s of the limits of clip. lambda rises over T steps with a cosine,
as the paper has it:

    lambda(t) = lambda * (1 - cos(pi t / T)) / 2

As with L2 decay, the term is added to the gradients and is not in the loss that is logged. Clipping by norm
is that of the sum.

>>> from mmx_tf.training.tuned import TunedSGD
>>> optimizer = TunedSGD(0.01, dampening=1e-2, dampening_steps=1000)
>>> optimizer.dampen(fixed)
"""

import math

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers import replicas
from mmx_tf.layers.quantizers.weights import QuantizeWrapper


class Dampened:
    """An optimizer that pulls quantized kernels to their codes, once `dampen` has told them.

    Args:
      *args, **kwargs: of the optimizer.
      dampening: lambda of the last step, 0 or more.
      dampening_steps: T, in which it gets there; 0 has it from the first step on.
    """

    _grid_of = None

    def __init__(self, *args, dampening: float = 0.0, dampening_steps: int = 0, **kwargs):
        super().__init__(*args, **kwargs)
        self.dampening, self.dampening_steps = float(dampening), int(dampening_steps)

    def dampen(self, network: keras.Model) -> None:
        """Takes the kernels of a fixed network, and their grids; any others it had are forgotten."""
        grids = {
            layer.quantize_config.kernel.ref(): layer.quantize_config.quantizer
            for layer in network.layers
            if isinstance(layer, QuantizeWrapper)
        }
        # A function: Keras would look for variables to save in a dict.
        self._grid_of = lambda variable: grids.get(variable.ref())

    def apply_gradients(self, grads_and_vars, *args, **kwargs):
        """Keras's, with the term's gradients added."""
        if not self.dampening or self._grid_of is None:
            return super().apply_gradients(grads_and_vars, *args, **kwargs)
        weight = self._weight() / replicas.count()
        found = []
        for gradient, variable in grads_and_vars:
            grid = self._grid_of(variable)
            if grid is not None and gradient is not None:
                gradient = gradient + weight * pull(variable, grid.step_size, low=grid.low, high=grid.high)
            found.append((gradient, variable))
        return super().apply_gradients(found, *args, **kwargs)

    def _weight(self) -> tf.Tensor:
        if not self.dampening_steps:
            return tf.constant(self.dampening)
        share = tf.minimum(tf.cast(self.iterations, tf.float32) / self.dampening_steps, 1.0)
        return self.dampening * (1.0 - tf.cos(math.pi * share)) / 2.0

    def get_config(self):
        """The optimizer's, and both arguments; `dampen` has to be called anew."""
        own = {"dampening": self.dampening, "dampening_steps": self.dampening_steps}
        return {**super().get_config(), **own}


def pull(kernel, step_size, *, low: int, high: int) -> tf.Tensor:
    """d/dw || w_hat - clip(w, s low, s high) ||^2 of a kernel, in its shape.

    Args:
      kernel: w.
      step_size: s, a scalar or one that broadcasts over the kernel.
      low, high: the codes' ends, n and p.
    """
    scaled = kernel / step_size
    inside = tf.logical_and(scaled >= low, scaled <= high)
    return tf.where(inside, 2.0 * (kernel - step_size * tf.round(scaled)), 0.0)
