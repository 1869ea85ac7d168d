"""Optimizers and schedules of float training and weight training (fine-tuning at fixed bits)."""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.choices import OPTIMIZERS, WEIGHT_DECAYS
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.training.weight_decay import L2SGD, L2Adam, spare_all_but_kernels


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
    model_variables,
    learning_rate,
    *,
    momentum: float,
    nesterov: bool,
    weight_decay: float = 0.0,
    weight_decay_kind: str = "decoupled",
    **kwargs,
):
    """SGD with momentum whose decay spares batch norm, biases, step sizes and alpha.

    Args:
      model_variables: the variables that will be trained.
      learning_rate: number or schedule.
      momentum: momentum in [0, 1).
      nesterov: Nesterov's form of it.
      weight_decay: decay of the kernels.
      weight_decay_kind: one of `choices.WEIGHT_DECAYS`; `weight_decay` says what they do.
      **kwargs: passed on to keras.optimizers.SGD.

    Raises:
      ValueError: for another kind.
    """
    check_kind(weight_decay_kind)
    options = {"momentum": momentum, "nesterov": nesterov and momentum > 0, **kwargs}
    if not weight_decay:
        return keras.optimizers.SGD(learning_rate, **options)
    if weight_decay_kind == "l2":
        optimizer = L2SGD(learning_rate, l2=weight_decay, **options)
    else:
        optimizer = keras.optimizers.SGD(learning_rate, weight_decay=weight_decay, **options)
    spare_all_but_kernels(optimizer, model_variables)
    return optimizer


def sgd_of(recipe: Recipe, model_variables, learning_rate):
    """The `sgd` of a recipe's momentum and decay."""
    return sgd(
        model_variables,
        learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        weight_decay_kind=recipe.weight_decay_kind,
    )


def weight_optimizer(
    name: str,
    model_variables,
    learning_rate,
    *,
    momentum: float,
    nesterov: bool,
    weight_decay: float = 0.0,
    weight_decay_kind: str = "decoupled",
    ema_decay: float = 0.0,
) -> keras.optimizers.Optimizer:
    """The optimizer of weight training.

    Args:
      name: one of `OPTIMIZERS`. "sgd" is `sgd`; "adamw" decays kernels alone, as that does, and is decoupled;
        "adam" has a decay of kind "l2" alone, and with "decoupled" none.
      model_variables: the variables that will be trained.
      learning_rate: number or schedule.
      momentum, nesterov: of "sgd"; the others have Keras's betas.
      weight_decay, weight_decay_kind: of the kernels, as of `sgd`.
      ema_decay: decay of the averages that the optimizer keeps of all variables; 0 for none.

    Raises:
      ValueError: for another name or kind, and for "adamw" with kind "l2".
    """
    check_kind(weight_decay_kind)
    averaging = {"use_ema": True, "ema_momentum": ema_decay} if ema_decay else {}
    if name == "sgd":
        options = {"momentum": momentum, "nesterov": nesterov}
        decay = {"weight_decay": weight_decay, "weight_decay_kind": weight_decay_kind}
        return sgd(model_variables, learning_rate, **options, **decay, **averaging)
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer {name!r}: one of {', '.join(OPTIMIZERS)}.")
    if name == "adam" and (weight_decay_kind == "decoupled" or not weight_decay):
        return keras.optimizers.Adam(learning_rate, **averaging)
    if name == "adam":
        optimizer = L2Adam(learning_rate, l2=weight_decay, **averaging)
    elif weight_decay_kind == "l2":
        raise ValueError("adamw with L2 decay: its decay is decoupled. Adam with L2 decay is 'adam'.")
    else:
        optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay, **averaging)
    spare_all_but_kernels(optimizer, model_variables)
    return optimizer


def check_kind(kind: str) -> None:
    """Refuses what is no kind of weight decay.

    Raises:
      ValueError: for another kind than `mmx_tf.choices.WEIGHT_DECAYS`.
    """
    if kind not in WEIGHT_DECAYS:
        raise ValueError(f"weight_decay_kind {kind!r}: one of {', '.join(WEIGHT_DECAYS)}.")
