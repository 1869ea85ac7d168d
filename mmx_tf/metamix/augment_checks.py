"""What `augment` refuses or warns of before it changes anything."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from absl import logging

from mmx_tf.folding.registry import has_integer_form, refusal
from mmx_tf.folding.values import FoldError
from mmx_tf.layers.quantizers.weights import kernel_attribute
from mmx_tf.network import graph, keras3
from mmx_tf.network.heads import is_softmax
from mmx_tf.network.kinds import BUILDABLE, DROPPED, tell_of_dropped
from mmx_tf.network.ours import step_of_ours
from mmx_tf.notation import some
from mmx_tf.recipe.search_settings import SearchSettings

OWN_STEPS = ("train_step", "compute_loss", "compute_metrics", "make_train_function")


def check_exportable(network, *, allowed: bool) -> None:
    """Refuses (FoldError) layers that `fold` will refuse; where they are allowed it warns of them."""
    without = without_integer_form(network)
    if not without:
        return
    if not allowed:
        others = "".join(f" Nor has {layer.name!r} ({type(layer).__name__})." for layer in without[1:])
        reason = refusal(without[0])
        rewriting = "" if reason else f" Rewrite such layers with {', '.join(BUILDABLE)}."
        raise FoldError(
            without[0],
            f"{reason or 'it has no integer form yet.'}{others}",
            advice=f"{rewriting} To search and fine-tune without a file, give mmx_tf.augment "
            "allow_unexportable=True.",
        )
    logging.warning(
        "%s can be searched and fine-tuned, but has no integer form yet: fold will refuse %s.",
        network.name,
        ", ".join(f"{layer.name!r} ({type(layer).__name__})" for layer in without),
    )


def without_integer_form(network) -> list:
    """The layers of a canonical network that `fold` will refuse."""
    ends = graph.ends(network)
    return [
        layer
        for layer in network.layers
        if not has_integer_form(layer) and not (is_softmax(layer) and layer.name in ends)
    ]


def check_signed(signed) -> None:
    """Refuses (ValueError) anything but a dict of switches."""
    if not isinstance(signed, Mapping | None):
        raise ValueError(f"signed={signed!r}: a dict, layer name -> True or False.")
    for name, value in dict(signed or {}).items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"signed[{name!r}]={value!r}: True or False.")


def check_targets(budgets: Sequence, settings: SearchSettings) -> None:
    """Refuses (ValueError) several targets where each would train weights of its own."""
    if settings.train_weights_in_search and len(budgets) > 1:
        raise ValueError(
            f"{len(budgets)} targets: a search that trains weights has one, as each would train its own."
        )


def check_float(model) -> None:
    """Refuses (ValueError) a network that mmx_tf made already."""
    step = step_of_ours(model)
    if step:
        raise ValueError(f"augment got {model.name!r}, and it takes a float network. {step}")


def check_own_losses(float_model) -> None:
    """Refuses (ValueError) losses that model or layers add by a function; regularizers are taken over."""
    for layer in getattr(float_model, "_flatten_layers", lambda: ())():
        for tagged in getattr(layer, "_callable_losses", ()):
            loss = next(iter(getattr(tagged, "args", ())), tagged)
            # Keras's own form of a kernel_regularizer and its like.
            made_of = getattr(loss, "func", loss)
            if getattr(made_of, "__name__", "") != "_loss_for_variable":
                raise ValueError(
                    f"{type(layer).__name__} {layer.name!r} adds a loss (add_loss), without which it "
                    "would be trained here: make it a kernel_regularizer or part of compile's loss."
                )


def warn_of_own_steps(float_model) -> None:
    """Tells that methods with which a class of the user's trains itself are not taken over."""
    own = [
        name
        for name in OWN_STEPS
        if hasattr(type(float_model), name)
        and not getattr(type(float_model), name).__module__.startswith(("tf_keras.", "keras."))
    ]
    if own:
        logging.warning(
            "%s has its own %s: search and fixed networks are trained by Keras's.",
            type(float_model).__name__, " and ".join(own),
        )  # fmt: skip


def check_names(network, budget, quantizer_name) -> None:
    """Refuses (ValueError) a layer with the name that the quantizer in front of another one gets."""
    names = {layer.name for layer in network.layers}
    for cost in budget.costs:
        if quantizer_name(cost.name) in names:
            raise ValueError(
                f"a layer has the name {quantizer_name(cost.name)!r}, but the quantizer in front of "
                f"{cost.name!r} needs this name: rename the layer."
            )


def check_activity_regularizers(float_model) -> None:
    """Refuses (ValueError) those of layers that search and file divide or replace."""
    for layer in getattr(float_model, "layers", ()):
        if getattr(layer, "activity_regularizer", None) is None or _is_dropped(layer):
            continue
        activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
        if kernel_attribute(layer) is None or activation != "linear":
            raise ValueError(
                f"layer {layer.name!r} ({type(layer).__name__}) has an activity_regularizer, which "
                "would act on another tensor here: remove it, or give it to a convolution or dense layer "
                "without an activation."
            )


def warn_of_dropped_layers(float_model) -> None:
    """Tells which layers of a tf_keras network are left out, since they act in training alone."""
    layers = getattr(float_model, "_flatten_layers", lambda: ())()
    # The import of a Keras 3 network tells of its own.
    names = [layer.name for layer in layers if _is_dropped(layer) and not keras3.is_keras3(float_model)]
    tell_of_dropped(float_model.name, names)


def _is_dropped(layer) -> bool:
    return type(layer).__name__ in DROPPED


def warn_of_frozen_layers(float_model) -> None:
    """Tells that layers which were frozen are trained: quantization changes what each one sees."""
    frozen = [layer.name for layer in float_model.layers if layer.weights and not layer.trainable]
    if frozen:
        logging.warning(
            "%d layer(s) of %s are frozen (%s); bit selection and weight training train them all the same, "
            "since quantization changes what each one sees.",
            len(frozen), float_model.name, some(frozen),
        )  # fmt: skip


def warn_of_no_budget(budget) -> None:
    """Tells what a search without a budget does."""
    low, high = budget.reachable
    logging.warning(
        "augment has no budget, so the search weighs accuracy alone and tends to the most bits. Give "
        "target_average_bits=%g, or target_bops in %d to %d.",
        (min(budget.bit_widths) + max(budget.bit_widths)) / 2, low, high,
    )  # fmt: skip


def warn_of_a_loose_limit(budget) -> None:
    """Tells that a limit, such as one of RAM, is met at the most bits everywhere."""
    for costs, target in budget.others:
        highest = costs.reachable[1]
        if costs.is_limit and target >= highest:
            logging.warning(
                "the budget of %g %s changes nothing: %d bits everywhere take %g.",
                target, costs.unit, max(budget.bit_widths), highest,
            )  # fmt: skip


def tell_nothing_to_search(name: str, budget, asked) -> None:
    """Warns that all weighted layers keep the bits of the ends, and refuses several targets (ValueError)."""
    if not budget.costs:
        raise ValueError(f"model {name!r} has no weighted layer: there is nothing to quantize.")
    said = (
        f"model {name!r} has {len(budget.costs)} weighted layer(s), and all of them are first or last ones, "
        f"which keep {budget.first_last_bits} bits: there is nothing to search."
    )
    if isinstance(asked.target_bops, list | tuple) and len(asked.target_bops) > 1:
        raise ValueError(f"{said} Give one target instead of {len(asked.target_bops)}.")
    logging.warning("%s It is trained and exported at these bits, whatever the budget.", said)


def check_finite(network) -> None:
    """Refuses weights that are NaN or infinite (ValueError names the layer)."""
    for layer, variable, count in graph.non_finite(network):
        raise ValueError(
            f"layer {layer.name!r} has {count} weights that are NaN or "
            f"infinite ({variable.name}): its training has diverged. Train again with a lower learning rate, "
            "or give the weights of before."
        )


def checked_bit_widths(name: str, bit_widths) -> tuple[int, ...]:
    """Distinct candidates in 2..8, as a tuple; ValueError otherwise."""
    widths = tuple(bit_widths) if isinstance(bit_widths, Iterable) else ()
    if not widths or any(width not in range(2, 9) for width in widths) or len(set(widths)) != len(widths):
        raise ValueError(
            f"{name}={bit_widths!r}: candidates are distinct integers in 2..8, for example (8, 4, 3)."
        )
    return tuple(int(width) for width in widths)


def checked_weight_bits(weight_bits) -> int | tuple[int, ...]:
    """The weight bits, or the candidates for them, as a tuple, where they are several."""
    if isinstance(weight_bits, str) or not isinstance(weight_bits, Iterable):
        return checked_bits("weight_bits", weight_bits)
    candidates = checked_bit_widths("weight_bits", weight_bits)
    return candidates if len(candidates) > 1 else candidates[0]


def checked_bits(name: str, bits) -> int:
    """A bit-width in 2..8; ValueError otherwise."""
    if bits not in range(2, 9):
        raise ValueError(f"{name}={bits!r}: an integer in 2..8.")
    return int(bits)
