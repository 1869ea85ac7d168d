"""Optimizers and schedules of float training and weight training (fine-tuning at fixed bits)."""

from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from mmx_tf.choices import OPTIMIZERS, WEIGHT_DECAYS
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.training.tuned import TunedAdam, TunedAdamW, TunedSGD
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
    tuning: Mapping | None = None,
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
      tuning: arguments of `tuned.TunedSGD` that keras.optimizers.SGD does not have.
      **kwargs: passed on to keras.optimizers.SGD.

    Raises:
      ValueError: for another kind.
    """
    check_kind(weight_decay_kind)
    options = {"momentum": momentum, "nesterov": nesterov and momentum > 0, **kwargs}
    plain, with_l2 = keras.optimizers.SGD, L2SGD
    if tuning:
        plain = with_l2 = TunedSGD
        options |= tuning
    if not weight_decay:
        return plain(learning_rate, **options)
    if weight_decay_kind == "l2":
        optimizer = with_l2(learning_rate, l2=weight_decay, **options)
    else:
        optimizer = plain(learning_rate, weight_decay=weight_decay, **options)
    spare_all_but_kernels(optimizer, model_variables)
    return optimizer


def optimizer_of(
    recipe: Recipe, phase: str, model_variables, learning_rate, *, steps: int = 0
) -> keras.optimizers.Optimizer:
    """The optimizer of the weights in a phase of a recipe.

    Args:
      recipe: its momentum, decay and clipping.
      phase: "float", "select" or "train".
      model_variables: the variables that will be trained.
      learning_rate: number or schedule.
      steps: of the phase "train".
    """
    names = {"float": "sgd", "select": recipe.select_optimizer, "train": recipe.optimizer}
    in_training = {"ema_decay": recipe.ema_decay}
    if recipe.step_size_learning_rate_factor != 1.0:
        in_training["step_size_factor"] = recipe.step_size_learning_rate_factor
    if recipe.oscillation_dampening:
        in_training |= {"dampening": recipe.oscillation_dampening, "dampening_steps": steps}
    return weight_optimizer(
        names[phase],
        model_variables,
        learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        weight_decay_kind=recipe.weight_decay_kind,
        global_clipnorm=clipnorm_of(recipe, phase),
        **(in_training if phase == "train" else {}),
    )


def step_optimizer_of(recipe: Recipe, learning_rate) -> keras.optimizers.Optimizer:
    """The optimizer of step sizes in bit selection, which has no decay."""
    norm = clipnorm_of(recipe, "select") or None
    if recipe.select_optimizer == "sgd":
        return keras.optimizers.SGD(learning_rate, momentum=recipe.momentum, global_clipnorm=norm)
    return keras.optimizers.Adam(learning_rate, global_clipnorm=norm)


def alpha_optimizer_of(recipe: Recipe, learning_rate) -> keras.optimizers.Optimizer:
    """The optimizer of alpha, an Adam whose decay is L2."""
    betas = {"beta_1": recipe.alpha_beta_1, "beta_2": recipe.alpha_beta_2}
    if not recipe.alpha_weight_decay:
        return keras.optimizers.Adam(learning_rate, **betas)
    return L2Adam(learning_rate, l2=recipe.alpha_weight_decay, **betas)


def clipnorm_of(recipe: Recipe, phase: str) -> float:
    """Largest global norm of a phase's gradients, one of "float", "select" and "train"; 0 for none."""
    norms = {"float": recipe.float_global_clipnorm, "select": recipe.select_global_clipnorm}
    return norms.get(phase, recipe.global_clipnorm)


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
    global_clipnorm: float = 0.0,
    **tuning,
) -> keras.optimizers.Optimizer:
    """An optimizer of weights, and of step sizes beside them.

    Args:
      name: one of `OPTIMIZERS`. "sgd" is `sgd`; "adamw" decays kernels alone, as that does, and is decoupled;
        "adam" has a decay of kind "l2" alone, and with "decoupled" none.
      model_variables: the variables that will be trained.
      learning_rate: number or schedule.
      momentum, nesterov: of "sgd"; the others have Keras's betas.
      weight_decay, weight_decay_kind: of the kernels, as of `sgd`.
      ema_decay: decay of the averages that the optimizer keeps of all variables; 0 for none.
      global_clipnorm: Keras's: where the norm of all gradients together is larger, they are scaled down
        to it, before an L2 decay is added. 0 for none.
      **tuning: arguments of the classes of `tuned` that Keras's do not have: `step_size_factor`,
        `dampening`, `dampening_steps`. Without any of them the optimizer is Keras's own.

    Raises:
      ValueError: for another name or kind, and for "adamw" with kind "l2".
    """
    check_kind(weight_decay_kind)
    more = {"use_ema": True, "ema_momentum": ema_decay} if ema_decay else {}
    if global_clipnorm:
        more["global_clipnorm"] = global_clipnorm
    if name == "sgd":
        options = {"momentum": momentum, "nesterov": nesterov}
        decay = {"weight_decay": weight_decay, "weight_decay_kind": weight_decay_kind}
        return sgd(model_variables, learning_rate, tuning=tuning, **options, **decay, **more)
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer {name!r}: one of {', '.join(OPTIMIZERS)}.")
    adam, l2_adam, adamw = keras.optimizers.Adam, L2Adam, keras.optimizers.AdamW
    if tuning:
        adam, l2_adam, adamw = TunedAdam, TunedAdam, TunedAdamW
        more |= tuning
    if name == "adam" and (weight_decay_kind == "decoupled" or not weight_decay):
        return adam(learning_rate, **more)
    if name == "adam":
        optimizer = l2_adam(learning_rate, l2=weight_decay, **more)
    elif weight_decay_kind == "l2":
        raise ValueError("adamw with L2 decay: its decay is decoupled. Adam with L2 decay is 'adam'.")
    else:
        optimizer = adamw(learning_rate, weight_decay=weight_decay, **more)
    spare_all_but_kernels(optimizer, model_variables)
    return optimizer


def check_kind(kind: str) -> None:
    """Refuses an unknown kind of weight decay.

    Raises:
      ValueError: for another kind than `mmx_tf.choices.WEIGHT_DECAYS`.
    """
    if kind not in WEIGHT_DECAYS:
        raise ValueError(f"weight_decay_kind {kind!r}: one of {', '.join(WEIGHT_DECAYS)}.")
