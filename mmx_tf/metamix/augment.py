"""From a float network to the search network: a quantizer in front of every weighted layer.

>>> search = augment("float.keras", bit_widths=(8, 4, 3), weight_bits=4, target_bops=400e3)
"""

import dataclasses
import functools
import numbers
import os
from collections.abc import Mapping, Sequence

import tf_keras as keras

from mmx_tf import devices
from mmx_tf.budget import bops, request
from mmx_tf.budget.budget import Budget
from mmx_tf.devices import kept
from mmx_tf.files.loading import loaded
from mmx_tf.folding import pixels
from mmx_tf.layers import keras_defaults
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer
from mmx_tf.layers.quantizers.pixels import PixelQuantizer
from mmx_tf.metamix import augment_checks, keywords, measured_costs, output_checks
from mmx_tf.metamix.search import SearchModel, quantizer_name
from mmx_tf.network import canonical, floors, graph, keras3, subclassed


@keywords.named(after="weight_bits")
@keras_defaults.float32()
def augment(
    float_model: keras.Model | str | os.PathLike,
    *,
    bit_widths: Sequence[int] = (8, 4, 3),
    weight_bits: int | Sequence[int] = 4,
    device: str = "bops",
    convert_options: Mapping | None = None,
    first_last_bits: int = 8,
    signed: Mapping[str, bool] | None = None,
    pixel_scaling: tuple[float, float] | Mapping[str, tuple[float, float]] | None = None,
    meta_epochs: int = 1,
    allow_unexportable: bool = False,
    **options,
) -> SearchModel:
    """Builds the search network of a trained float network, which is left untouched.

    Budgets that are given together are all met; with none the search weighs accuracy alone.

    Args:
      float_model: a functional or built Sequential network of tf_keras or Keras 3. Its inputs are images
        (height, width, channels), signals (length, channels) or vectors. The path of its file or SavedModel
        folder will do, if `mmx_tf.load_model` reads it. A subclassed network has to be called on a batch
        first; its layers are then read (`mmx_tf.network.subclassed`). Several outputs may be a list, a tuple
        or a dict, and the search network gives them in the same form.
      bit_widths: candidate activation bit-widths, distinct integers in 2..8.
      weight_bits: one number, or several. One number is the bits of the weights in weight training and in
        the BOPs; during the search weights are in full precision. Several distinct numbers are candidates:
        the search then chooses weight bits too, and each searched layer has a weight quantizer for each
        candidate, all of them on the layer's one kernel.
      **options: target_bops, target_average_bits and the like (`mmx_tf.recipe.budgets`), and the settings
        of the search (`mmx_tf.recipe.search_settings`); `help(mmx_tf.augment)` has a line for each.
      device: the part (`mmx_tf.devices`) whose tool says what bits cost for `target_flash` and
        `target_latency`, such as "ethos-u55-128".
      convert_options: with `target_bytes`, `target_ram`, `target_flash` or `target_latency`, the arguments of
        `mmx_tf.convert` that the file will be made with, such as {"weight_storage": "int4_xnnpack",
        "labels": labels}.
      first_last_bits: weight and activation bits of first and last layers, which are not searched.
      signed: layer name -> True if that layer's input is quantized with symmetric codes, False if with
        unsigned ones. For a layer that is not named, the operator in front of it decides: codes are unsigned
        after ReLU, ReLU6 and sigmoid; they begin at the smallest value of hard-swish (-0.375), ELU, SELU,
        GELU and mish; they are symmetric after anything else.
      pixel_scaling: (scale, offset) if the network is given pixel * scale + offset, with pixels in 0..255;
        for example (1 / 127.5, -1). The file then takes the pixels themselves. If a single layer takes the
        image, with at most a Rescaling by two numbers in front, the pixels are that layer's input codes.
        Otherwise what the network does to the image becomes operators of the file. Without pixel_scaling the
        step size of the first layer's input is trained, and a Rescaling is left out of the file: its user has
        to do it. For several inputs give a dict, with the names of the inputs that are pixels.
      meta_epochs: epochs of bit-meta steps before bit-search steps join in.
      allow_unexportable: accept layers that can be searched and trained, but that `fold` will refuse.

    Raises:
      ValueError: for an argument that is wrong by itself (bits that are not integers in 2..8, a budget that
        is not a number, an unknown weighting, a `signed` key that names no layer, a `pixel_scaling` that is
        not a pair of numbers or maps no pixel to 0); for arguments that do not go together (two budgets in
        BOPs, a list with one budget twice, `target_bytes` where the file's size does not depend on weight
        bits, `convert_options` that `convert` refuses); and for a network that cannot be used (weights that
        are not finite, nested outputs, an output that is the image or the same tensor as another, a layer
        that cannot be exported, unless `allow_unexportable`).
      DeviceError: a ValueError, for an unknown device, or a budget that means nothing on the device.
      MissingVelaError: a ValueError, for a device whose tool is not installed.
      CostTableError: a ValueError, for a cost table that does not fit the network.
      UnsupportedLayerError: for a layer that cannot be handled.
      UnreachableBudgetError: if no choice of bits meets the budgets.
    """
    budget, settings = keywords.parted(options, augment)
    augment_checks.check_signed(signed)
    if isinstance(meta_epochs, bool) or not isinstance(meta_epochs, numbers.Integral) or meta_epochs < 0:
        raise ValueError(f"meta_epochs={meta_epochs!r}: an integer of 0 or more.")
    float_model = subclassed.as_functional(loaded(float_model))
    augment_checks.check_float(float_model)
    augment_checks.check_own_losses(float_model)
    augment_checks.check_activity_regularizers(float_model)
    network, budgets = plan(
        float_model,
        bit_widths=bit_widths,
        weight_bits=weight_bits,
        first_last_bits=first_last_bits,
        **budget,
    )
    measured = {
        name: measured_costs.measuring(name, device)
        for name in measured_costs.MEASURED
        if budget.get(name) is not None
    }
    part = devices.named(device)
    # What is known of earlier trial files may be all that is asked; otherwise this is told before long work.
    if not len(kept.current()) and any(name in part.measures for name in measured):
        part.check()
    if not measured and convert_options:
        *first, last = measured_costs.MEASURED
        names = f"{', '.join(first)} and {last}"
        raise ValueError(f"convert_options={convert_options!r}: they are for {names} alone.")
    augment_checks.check_targets(budgets, settings)
    augment_checks.check_names(network, budgets[0], quantizer_name)
    augment_checks.warn_of_dropped_layers(float_model)
    augment_checks.warn_of_frozen_layers(float_model)
    augment_checks.warn_of_own_steps(float_model)
    augment_checks.check_exportable(network, allowed=allow_unexportable)
    if not budgets[0].constraints and not measured:
        augment_checks.warn_of_no_budget(budgets[0])
    search = functools.partial(
        SearchModel,
        network=_with_quantizers(
            network, budgets[0], dict(signed or {}), _pixel_quantizers(network, budgets[0], pixel_scaling)
        ),
        settings=settings,
        meta_epochs=int(meta_epochs),
        output_name=output_checks.output_names(float_model),
        name=f"{network.name}_search",
    )
    if measured and budgets[0].searched:
        trial = search(budget=budgets)
        for name, costs_of in measured.items():
            costs = costs_of(trial, convert_options or {})
            budgets = tuple(one.beside(costs, float(budget[name])) for one in budgets)
        augment_checks.warn_of_a_loose_limit(budgets[0])
    return search(budget=budgets)


@keras_defaults.float32()
def plan(
    float_model: keras.Model,
    *,
    bit_widths: Sequence[int],
    weight_bits: int | Sequence[int],
    first_last_bits: int,
    **budget,
) -> tuple[keras.Model, tuple[Budget, ...]]:
    """What `augment` checks and works out before it builds anything, which takes a fraction of its time.

    Args:
      float_model, bit_widths, weight_bits, first_last_bits: as `augment`'s.
      **budget: those of `AskedBudget` (`mmx_tf.recipe.budget_rules`).

    Returns:
      The canonical network and the budgets, one for each target.

    Raises:
      ValueError, UnsupportedLayerError, UnreachableBudgetError: as `augment`.
    """
    bit_widths = augment_checks.checked_bit_widths("bit_widths", bit_widths)
    weight_bits = augment_checks.checked_weight_bits(weight_bits)
    first_last_bits = augment_checks.checked_bits("first_last_bits", first_last_bits)
    asked = request.asked_for(**budget)
    network = canonical.canonicalize(keras3.as_tf_keras(float_model))
    output_checks.check_outputs(network, output_checks.output_names(float_model))
    augment_checks.check_finite(network)
    costs = tuple(bops.layer_costs(network))
    free = Budget(costs, bit_widths, weight_bits, first_last_bits)
    if free.searched:
        return network, request.budgets(asked, free)
    augment_checks.tell_nothing_to_search(float_model.name, free, asked)
    return network, (dataclasses.replace(free, target_bops=free.fixed_bops),)


def _pixel_quantizers(network, budget: Budget, scaling) -> list[PixelQuantizer]:
    """The quantizers of the inputs that are pixels."""
    names = network.input_names
    if scaling is None:
        return []
    if isinstance(scaling, Mapping) and not set(scaling) <= set(names):
        raise ValueError(f"pixel_scaling has the names {sorted(scaling)}; the inputs are {names}.")
    if len(names) > 1 and not isinstance(scaling, Mapping):
        raise ValueError(
            f"pixel_scaling={scaling!r}: the network has the inputs {names}, so give a dict by the names of "
            f"those that are pixels, {{{names[0]!r}: (1 / 127.5, -1)}}."
        )
    given = scaling if isinstance(scaling, Mapping) else {names[0]: scaling}
    return [
        _pixel_quantizer(network, tensor, budget, given[name])
        for name, tensor in zip(names, network.inputs, strict=True)
        if given.get(name) is not None
    ]


def _pixel_quantizer(network, image, budget: Budget, scaling) -> PixelQuantizer:
    """An image's quantizer, named after the layer that it belongs to: the first one, or the image."""
    try:
        scale, offset = (float(number) for number in scaling)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"pixel_scaling={scaling!r}: give two numbers, scale and offset, such as (1 / 127.5, -1)."
        ) from error
    name = image.node.layer.name
    if budget.first_last_bits == 8:
        first = pixels.pixel_layer(network, image, (scale, offset))
        if first is not None:
            name, (scale, offset) = first
    try:
        return PixelQuantizer(scale=scale, offset=offset, name=quantizer_name(name))
    except ValueError as error:
        raise ValueError(f"pixel_scaling={scaling!r}: {error}") from error


def _with_quantizers(network, budget: Budget, signed, pixel_quantizers) -> keras.Model:
    costs = {cost.name: cost for cost in budget.costs}
    unknown = signed.keys() - costs.keys()
    if unknown:
        raise ValueError(f"signed names {sorted(unknown)}, which are no layers; allowed are {sorted(costs)}.")
    lowest: dict[int, float] = {}
    special = {quantizer.name: quantizer for quantizer in pixel_quantizers}

    def call(layer, args, kwargs):
        if layer.name in costs:
            codes = floors.codes_of(lowest.get(id(args[0]), floors.UNKNOWN))
            if layer.name in signed:
                codes = {"signed": signed[layer.name], "floor": None}
            quantizer = special.get(quantizer_name(layer.name))
            value = layer((quantizer or _quantizer(costs[layer.name], budget, codes))(args[0]))
        else:
            value = layer(*args, **kwargs)
        lowest[id(value)] = floors.floor_of(layer, args, lowest)
        return value

    inputs = graph.inputs_like(network)
    image_quantizers = [special.get(quantizer_name(image.node.layer.name)) for image in inputs]
    images = [
        quantizer(image) if quantizer else image
        for quantizer, image in zip(image_quantizers, inputs, strict=True)
    ]
    # The canonical layers are ours alone, so they are called again here instead of being cloned.
    return keras.Model(graph.single(inputs), graph.replay(network, images, call), name=network.name)


def _quantizer(cost, budget: Budget, codes: dict):
    name = quantizer_name(cost.name)
    if cost.end:
        # LSQ's rule would spend 8 bits on a range far beyond the image's.
        return ActivationQuantizer(bits=budget.first_last_bits, covering=True, name=name, **codes)
    return MultiBranchQuantizer(bit_widths=budget.bit_widths, name=name, **codes)
