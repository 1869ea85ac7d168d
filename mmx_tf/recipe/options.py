"""Flags that the paper's recipes leave alone: options of weight training, and other ways to choose bits."""

from dataclasses import dataclass

from mmx_tf import choices
from mmx_tf.recipe.allowed import AboveZero, BelowOne, Between, OneOf, flag


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """The part of `mmx_tf.recipe.recipe.Recipe` that is off unless it is asked for."""

    optimizer: str = flag(
        "sgd",
        "Optimizer of weight training: {allowed}. adam has a --weight_decay with "
        "--weight_decay_kind=l2 alone, adamw is decoupled; both need a --learning_rate far below sgd's.",
        group="options of weight training",
        allowed=OneOf(choices.OPTIMIZERS),
    )
    label_smoothing: float = flag(
        0.0, "Share of a label that is spread over all classes; 0 for none.", allowed=BelowOne()
    )
    ema_decay: float = flag(
        0.0,
        "Decay of the moving averages of weights, step sizes and batch-norm statistics that are evaluated "
        "and exported instead of the last ones, such as 0.999; 0 for none.",
        allowed=BelowOne(),
    )
    teacher: str = flag(
        "",
        "Distillation: the network whose outputs weight training learns from, a file as --float_model's or "
        "'float' for the float network itself; empty for none.",
    )
    distillation_weight: float = flag(
        0.5,
        "With --teacher: weight w of its share, loss = (1 - w) * loss of the labels + w * its share.",
        allowed=Between(0, 1),
    )
    distillation_temperature: float = flag(
        1.0,
        "With --teacher: T of its share, T^2 * KL(softmax(teacher / T) || softmax(network / T)).",
        allowed=AboveZero(),
    )

    selection: str = flag(
        "search",
        "What chooses the bits: {allowed}. random draws them with --seed within the "
        "budget; uniform takes --uniform_bits everywhere, whose BOPs are then the budget. Neither has "
        "bit-search steps: all --select_epochs are meta training.",
        group="ablations",
        allowed=OneOf(("search", "random", "uniform")),
    )
    uniform_bits: int = flag(0, "Activation bits of all searched layers with --selection=uniform.")
    bit_selection: str = flag(
        "",
        "A bit_selection.json of this network whose activation bits are taken instead of a search's; with "
        "several --weight_bits its weight bits too.",
    )
    from_scratch: bool = flag(
        False,
        "Weight training starts from the float network and new step sizes, not from the meta-state; bit "
        "selection is left out where nothing depends on it.",
    )
