"""A learning rate of step sizes that is a multiple of the weights', in one optimizer.

LSQ trains step sizes s and weights at one rate (Esser et al. 2020, arXiv 1902.08153). Here a step of s is

    lr_s = factor * lr        at every step of the schedule

so that it is the step of an optimizer of its own with that rate: SGD's velocities, Adam's moments and the
schedule stay those of each variable.

>>> from mmx_tf.training.tuned import TunedSGD
>>> optimizer = TunedSGD(0.01, momentum=0.9, step_size_factor=10.0)
"""

import tf_keras as keras


class StepSizeRate:
    """An optimizer whose step sizes have `step_size_factor` times its learning rate.

    Args:
      *args, **kwargs: of the optimizer.
      step_size_factor: above 0; 1 leaves the optimizer what it is.
    """

    _times = 1.0

    def __init__(self, *args, step_size_factor: float = 1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.step_size_factor = float(step_size_factor)

    def _rate(self):
        rate = keras.optimizers.Optimizer.learning_rate.fget(self)
        return rate if self._times == 1.0 else rate * self._times

    # Keras's property, of whose value a variable's step is made; its setter stays.
    learning_rate = keras.optimizers.Optimizer.learning_rate.getter(_rate)

    def update_step(self, gradient, variable):
        """Keras's step of one variable."""
        self._times = self.step_size_factor if is_step_size(variable) else 1.0
        try:
            return super().update_step(gradient, variable)
        finally:
            self._times = 1.0

    def get_config(self):
        """The optimizer's, and step_size_factor."""
        return {**super().get_config(), "step_size_factor": self.step_size_factor}


def is_step_size(variable) -> bool:
    """Whether a variable is the step size, or step sizes, of a quantizer of weights or activations."""
    return "step_size" in variable.name.split("/")[-1]
