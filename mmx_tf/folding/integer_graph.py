"""One operator of the file for each call of the fixed network: the work behind `mmx_tf.fold`.

`IntegerGraph.call` is the `call` of a `graph.replay` over the fixed network. It decides for quantizers and
weighted layers itself; all other classes are folded as `registry` knows.
"""

import collections
import dataclasses

import numpy as np

from mmx_tf.folding import clips, registry
from mmx_tf.folding.values import Codes, FoldError, Pending, codes_name, codes_of, materialize
from mmx_tf.folding.weighted_layers import weighted_layer
from mmx_tf.folding.weights import folded_weights
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.differences import IntegerScale
from mmx_tf.layers.integer.layers import IntegerRequantize, IntegerRescale
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.gates import GateQuantizer
from mmx_tf.layers.quantizers.pixels import PixelQuantizer, QuantizePixels
from mmx_tf.layers.quantizers.weights import QuantizeWrapper
from mmx_tf.network.heads import is_softmax


class IntegerGraph:
    """Folds one network, call by call.

    `with_units` are the names of the quantizers whose codes may be in a unit of their own, `chains` the
    quantizers in whose unit carriers are (`folding.clips`).
    """

    def __init__(self, weight_storage, *, last_layers, with_units, chains, calibrated=True):
        self.weight_storage = weight_storage
        self.last_layers = last_layers
        self.with_units, self.chains = with_units, chains
        self.calibrated = calibrated
        self._calls = collections.Counter()

    def call(self, layer, args, kwargs):
        """The folded value of one layer call, a `Codes` or a `Pending`."""
        value = args[0]
        if isinstance(layer, ActivationQuantizer):
            return self._quantize(layer, value)
        if isinstance(layer, PixelQuantizer):
            return self._pixels(layer, value)
        if isinstance(layer, GateQuantizer):
            return Codes(materialize(value, layer.grid), layer.grid, layer.low >= 0)
        if isinstance(layer, QuantizeWrapper):
            return self._weighted(layer, codes_of(layer, value))
        if is_softmax(layer) and layer.name in self.last_layers:
            return value
        return registry.folded(layer, value)

    def _quantize(self, quantizer, value):
        if self.calibrated and not bool(quantizer.initialized):
            raise FoldError(
                quantizer,
                "it has seen no image yet, so its step size means nothing.",
                advice=" Train first: fixed.fit(train_ds), or fixed.predict(images) to try the export alone.",
            )
        # A carrier that several tensors share is called for each.
        self._calls[quantizer.name] += 1
        count = self._calls[quantizer.name]
        name = quantizer.name if count == 1 else f"{quantizer.name}_{count}"
        step_size = float(quantizer.step_size.numpy())
        grid = Grid.low_bit(step_size=step_size, highest_code=quantizer.high)
        nonnegative = value.nonnegative or (
            isinstance(value, Pending) and value.activation in ("relu", "relu6")
        )
        # The container's own saturation, or the source itself, is the lower clip.
        clips_itself = quantizer.high - quantizer.low == 255 or (quantizer.low == 0 and nonnegative)
        end = self.chains.get(quantizer.name, quantizer)
        if end is not quantizer:
            return self._in_unit_of(end, quantizer, value, step_size)
        if not clips_itself and self._takes_bounds(quantizer, value):
            return self._bounded(quantizer, value, step_size, name)
        if isinstance(value, Pending):
            codes, grid = self._emitted(value, quantizer, grid, name)
        elif value.grid == grid and value.step_size is None:
            return value
        elif value.step_size is None:
            codes = IntegerRescale(input_grid=value.grid, output_grid=grid, name=name)(value.tensor)
        else:
            scale = IntegerScale(factor=value.unit, input_grid=value.grid, output_grid=grid, name=name)
            codes = scale(value.tensor)
        if clips_itself:
            return Codes(codes, grid, nonnegative, quantizer.bits)
        clipped = Grid.lower_clip(step_size=step_size, lowest_code=quantizer.low)
        clip = IntegerRequantize(input_grid=grid, output_grid=clipped, name=f"{name}_lower_clip")
        return Codes(clip(codes), clipped, quantizer.low == 0, quantizer.bits)

    def _takes_bounds(self, quantizer, value) -> bool:
        """Whether the operator in front can do both clips, fused: its output then is in another unit."""
        if quantizer.name not in self.with_units:
            return False
        if isinstance(value, Pending):
            knows = value.knows_units or quantizer.name in self.chains
            return knows and value.activation == "linear"
        return True

    def _in_unit_of(self, end, carrier, pending, step_size) -> Codes:
        """A carrier's codes in the unit of the quantizer at the end of its chain of additions."""
        pending.unit = clips.unit_of(end)
        grid = Grid.low_bit(step_size=step_size / pending.unit, highest_code=carrier.high)
        codes = materialize(pending, grid)
        return Codes(codes, grid, False, carrier.bits, float(np.float32(step_size)))

    def _bounded(self, quantizer, value, step_size, name) -> Codes:
        """The codes with both clips in the operator that makes them."""
        grid = clips.bounded_grid(low=quantizer.low, high=quantizer.high)
        codes = Codes(None, grid, quantizer.low == 0, quantizer.bits, float(np.float32(step_size)))
        if isinstance(value, Pending):
            value.activation, value.unit = clips.BOUNDED, codes.unit
            codes.tensor = materialize(value, grid)
        else:
            scale = IntegerScale(
                factor=value.unit / codes.unit,
                activation=clips.BOUNDED,
                input_grid=value.grid,
                output_grid=grid,
                name=name,
            )
            codes.tensor = scale(value.tensor)
        return codes

    def _emitted(self, pending, quantizer, grid, name):
        """(codes, their grid): where values are cut off below the highest code, saturation does it."""
        if pending.cap is None:
            return materialize(pending, grid), grid
        highest = int(np.rint(np.float32(pending.cap) / np.float32(grid.scale)))
        capped = Grid.low_bit(step_size=grid.scale, highest_code=min(quantizer.high, highest))
        codes = materialize(pending, capped)
        if quantizer.uses == 1 or capped == grid:
            return codes, capped
        back = IntegerRequantize(input_grid=capped, output_grid=grid, name=f"{name}_shared")
        return back(codes), grid

    def _pixels(self, quantizer, value):
        # augment puts it behind the image, where only paddings and the image's rescaling can be between.
        def emit(output_grid, activation):
            entry = QuantizePixels(
                scale=quantizer.scale, offset=quantizer.offset, name=codes_name(value.emit.image)
            )
            return entry(value.emit.image)

        codes = materialize(dataclasses.replace(value, emit=emit), quantizer.grid)
        return Codes(codes, quantizer.grid, False, quantizer.bits)

    def _weighted(self, wrapper, value):
        layer = wrapper.layer
        registry.check(layer)

        def emit(output_grid, activation):
            weights = folded_weights(
                wrapper, pending.batch_norm, value.trained_grid, weight_storage=self.weight_storage
            )
            if value.unit != pending.unit:
                scales = np.float32(weights.weight_scales * np.float64(value.unit / pending.unit))
                weights = dataclasses.replace(weights, weight_scales=scales)
            common = dict(
                input_grid=value.grid,
                output_grid=output_grid,
                activation=activation,
                activation_bits=value.bits,
                weight_bits=wrapper.quantize_config.bits,
                name=layer.name,
                **dataclasses.asdict(weights),
            )
            return weighted_layer(layer, value.tensor, **common)

        pending = Pending(emit, layer, knows_units=True)
        return pending
