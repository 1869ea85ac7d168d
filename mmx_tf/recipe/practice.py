"""Flags of training practice, off by default: what public codes of low-bit networks do beside the method."""

from dataclasses import dataclass

from mmx_tf import choices
from mmx_tf.recipe.allowed import AboveZero, BelowOne, Between, OneOf, flag


@dataclass(frozen=True, kw_only=True)
class TrainingPractice:
    """The part of `mmx_tf.recipe.recipe.Recipe` that says how low bits are trained; the help is beside it."""

    step_size_learning_rate_factor: float = flag(
        1.0,
        "Weight training: learning rate of step sizes, as a multiple of the weights' at every step. (In bit "
        "selection they have --step_learning_rate.)",
        group="training practice",
        allowed=AboveZero(),
    )
    float_global_clipnorm: float = flag(
        0.0,
        "Float training: gradients of all variables are scaled down together where their global norm is "
        "larger (Keras's global_clipnorm); 0 for none.",
        allowed=Between(0),
    )
    select_global_clipnorm: float = flag(
        0.0,
        "The same in bit selection: of weights and batch norm, and of step sizes, each by their own norm.",
        allowed=Between(0),
    )
    global_clipnorm: float = flag(
        0.0, "The same in weight training, of weights and step sizes by one norm.", allowed=Between(0)
    )
    share_step_sizes: bool = flag(
        False,
        "Layers that read one tensor at equal bits have one step size from weight training on: the file has "
        "one QUANTIZE for all of them, or none, where each has its own otherwise.",
    )
    activation_epochs: int = flag(
        0,
        "Epochs before weight training with the selected bits of activations alone, weights in full "
        "precision: a cosine of --learning_rate of their own. Weight training then begins with a new "
        "optimizer and new step sizes of weights.",
        allowed=Between(0),
    )
    batch_norm_images: int = flag(
        0,
        "Training images (whole batches, one or more) from which batch norm's running statistics are "
        "estimated anew after weight training; 0 keeps its moving averages.",
        allowed=Between(0),
    )
    oscillation_dampening: float = flag(
        0.0,
        "Weight training: lambda at its end of the term lambda * ||w_hat - clip(w)||^2 that pulls weights to "
        "the middle of their bins (Nagel et al. 2022), which rises from 0 with a cosine; 0 for none.",
        allowed=Between(0),
    )
    select_optimizer: str = flag(
        "sgd",
        "Optimizer of weights and step sizes in bit selection: {allowed}. adam needs rates far below sgd's; "
        "the decay is as for --optimizer, and step sizes have none.",
        allowed=OneOf(choices.OPTIMIZERS),
    )
    distill_selection: bool = flag(
        False,
        "With --teacher: bit-meta and bit-search steps learn from it too, with the same weight and "
        "temperature.",
    )
    alpha_beta_1: float = flag(0.9, "beta_1 of alpha's Adam.", allowed=BelowOne())
    alpha_beta_2: float = flag(0.999, "beta_2 of alpha's Adam.", allowed=BelowOne())
    alpha_weight_decay: float = flag(
        0.0, "L2 decay wd of alpha: wd * alpha is added to its gradient.", allowed=Between(0, 1)
    )
    alpha_schedule: str = flag(
        "cosine",
        "Learning rate of alpha over the bit-search steps: {allowed}. cosine falls to 0, so that the "
        "selection settles.",
        allowed=OneOf(("cosine", "constant")),
    )
