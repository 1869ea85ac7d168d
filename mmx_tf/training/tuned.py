"""Keras's optimizers with what low bits are trained with: a rate for step sizes, L2 decay, dampening.

Arguments are those of Keras's class, `StepSizeRate`, `Dampened` and `L2`.
"""

import tf_keras as keras

from mmx_tf.training.oscillations import Dampened
from mmx_tf.training.step_size_rate import StepSizeRate
from mmx_tf.training.weight_decay import L2


@keras.saving.register_keras_serializable(package="mmx_tf")
class TunedSGD(Dampened, StepSizeRate, L2, keras.optimizers.SGD):
    """keras.optimizers.SGD with more."""


@keras.saving.register_keras_serializable(package="mmx_tf")
class TunedAdam(Dampened, StepSizeRate, L2, keras.optimizers.Adam):
    """keras.optimizers.Adam with more."""


@keras.saving.register_keras_serializable(package="mmx_tf")
class TunedAdamW(Dampened, StepSizeRate, keras.optimizers.AdamW):
    """keras.optimizers.AdamW with more; its decay is decoupled."""
