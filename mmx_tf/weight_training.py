"""Optimizers and schedules of float training and weight training (fine-tuning at fixed bits)."""

import tensorflow as tf
import tf_keras as keras


@keras.saving.register_keras_serializable(package="mmx_tf")
class ScaledRate(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate times a factor that can be changed while training goes on.

    Args:
      learning_rate: number or schedule.
      scale: the factor, a scalar variable or a number.
    """

    def __init__(self, learning_rate, scale):
        self.learning_rate, self.scale = learning_rate, scale

    def __call__(self, step):
        """The learning rate at an optimizer's step."""
        rate = self.learning_rate(step) if callable(self.learning_rate) else self.learning_rate
        return rate * tf.convert_to_tensor(self.scale)

    def get_config(self):
        """The learning rate and the factor of the moment."""
        rate = keras.saving.serialize_keras_object(self.learning_rate)
        return {"learning_rate": rate, "scale": float(tf.convert_to_tensor(self.scale))}

    @classmethod
    def from_config(cls, config):
        """The schedule of a config that `get_config` made."""
        return cls(keras.saving.deserialize_keras_object(config["learning_rate"]), config["scale"])


def cosine_schedule(peak: float, *, steps: int, warmup_steps: int = 0):
    """Linear warm-up from 0 to `peak`, then half a cosine down to 0 at `steps`."""
    if warmup_steps:
        return keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - warmup_steps), warmup_target=peak, warmup_steps=warmup_steps
        )
    return keras.optimizers.schedules.CosineDecay(peak, max(1, steps))


def sgd(
    model_variables, learning_rate, *, momentum: float, nesterov: bool, weight_decay: float = 0.0, **kwargs
):
    """SGD with momentum whose decay spares batch norm, biases, step sizes and alpha.

    The decay is decoupled, as everywhere in Keras: w -= learning rate * decay * w, outside the momentum.

    Args:
      model_variables: the variables that will be trained.
      learning_rate: number or schedule.
      momentum: momentum in [0, 1).
      nesterov: Nesterov's form of it.
      weight_decay: decay of the kernels.
      **kwargs: passed on to keras.optimizers.SGD.
    """
    optimizer = keras.optimizers.SGD(
        learning_rate,
        momentum=momentum,
        nesterov=nesterov and momentum > 0,
        weight_decay=weight_decay or None,
        **kwargs,
    )
    if weight_decay:
        optimizer.exclude_from_weight_decay([v for v in model_variables if not is_kernel(v)])
    return optimizer


OPTIMIZERS = ("sgd", "adam", "adamw")


def weight_optimizer(
    name: str,
    model_variables,
    learning_rate,
    *,
    momentum: float,
    nesterov: bool,
    weight_decay: float = 0.0,
    ema_decay: float = 0.0,
) -> keras.optimizers.Optimizer:
    """The optimizer of weight training.

    Args:
      name: one of `OPTIMIZERS`. "sgd" is `sgd`; "adamw" decays kernels as that does; "adam" has no decay.
      model_variables: the variables that will be trained.
      learning_rate: number or schedule.
      momentum, nesterov: of "sgd"; the others have Keras's betas.
      weight_decay: decay of the kernels.
      ema_decay: decay of the averages that the optimizer keeps of all variables; 0 for none.

    Raises:
      ValueError: for another name.
    """
    averaging = {"use_ema": True, "ema_momentum": ema_decay} if ema_decay else {}
    if name == "sgd":
        options = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        return sgd(model_variables, learning_rate, **options, **averaging)
    if name == "adam":
        return keras.optimizers.Adam(learning_rate, **averaging)
    if name != "adamw":
        raise ValueError(f"optimizer {name!r}: one of {', '.join(OPTIMIZERS)}.")
    optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay, **averaging)
    optimizer.exclude_from_weight_decay([v for v in model_variables if not is_kernel(v)])
    return optimizer


def is_kernel(variable) -> bool:
    """Whether a variable is a convolution's or dense layer's kernel."""
    return variable.name.split("/")[-1].split(":")[0] in ("kernel", "depthwise_kernel")
