"""The two kinds of weight decay, for kernels w with gradient g, learning rate lr and decay wd.

    decoupled:  w <- w - lr * wd * w, then the step with g     (Keras's weight_decay, AdamW)
    l2:         the step with g + wd * w                       (PyTorch's weight_decay of SGD and Adam)

L2 decay is the gradient of a loss term wd / 2 * sum(w^2), without that term in the loss that is logged. It
goes through the momentum, so that with momentum m it is 1 / (1 - m) times as strong as the decoupled decay of
the same number, ten times at 0.9. Adam divides it by the gradients' size (Loshchilov and Hutter 2019).

Only kernels of convolutions and dense layers decay: no batch norm, no bias, no step size, no alpha.

>>> optimizer = L2SGD(0.01, momentum=0.9, l2=1e-4)
>>> spare_all_but_kernels(optimizer, float_model.trainable_variables)      # before it is built
"""

import tensorflow as tf
import tf_keras as keras


class L2:
    """An optimizer that adds l2 * w to the gradients of the variables that are not excluded from decay.

    Where several replicas train, this is after the sum of their gradients. So it is added once.

    Args:
      *args, **kwargs: of the optimizer; its own `weight_decay`, which is decoupled, stays unset.
      l2: decay of 0 or more.
    """

    def __init__(self, *args, l2: float = 0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.l2 = l2

    def update_step(self, gradient, variable):
        """Keras's step of one variable."""
        if self.l2 and self._use_weight_decay(variable):
            gradient = gradient + tf.cast(self.l2, variable.dtype) * variable
        return super().update_step(gradient, variable)

    def get_config(self):
        """The optimizer's, and l2."""
        return {**super().get_config(), "l2": self.l2}


@keras.saving.register_keras_serializable(package="mmx_tf")
class L2SGD(L2, keras.optimizers.SGD):
    """keras.optimizers.SGD with L2 decay; arguments as `L2`."""


@keras.saving.register_keras_serializable(package="mmx_tf")
class L2Adam(L2, keras.optimizers.Adam):
    """keras.optimizers.Adam with L2 decay; arguments as `L2`."""


def spare_all_but_kernels(optimizer: keras.optimizers.Optimizer, variables) -> None:
    """Excludes all variables but kernels from the decay of an optimizer that has not been built."""
    optimizer.exclude_from_weight_decay([v for v in variables if not is_kernel(v)])


def is_kernel(variable) -> bool:
    """Whether a variable is a convolution's or dense layer's kernel."""
    return variable.name.split("/")[-1].split(":")[0] in ("kernel", "depthwise_kernel")
