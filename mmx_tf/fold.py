"""From the fixed network to its *folded* twin: the exported file's own arithmetic as a tf_keras model.

Batch norm goes into weight scales and bias, bias onto the int32 grid s_in * s_w, every tensor holds int8
codes, and each layer is one TFLite operator. What the folded model computes, the file computes.

    >>> folded = fold(fixed)
    >>> logits = folded.predict(images)      # dequantized logits; the file's codes are the same
"""

import dataclasses

import tensorflow as tf
import tf_keras as keras

from layers.activation_quantizer import ActivationQuantizer
from layers.grid import Grid
from layers.integer_layers import (
    Dequantize,
    IntegerAdd,
    IntegerMean,
    IntegerRequantize,
    IntegerRescale,
    QuantizeInput,
)
from layers.integer_shape_layers import (
    IntegerAveragePool2D,
    IntegerConcatenate,
    IntegerMaxPool2D,
    IntegerPad,
    IntegerReshape,
)
from layers.integer_weighted_layers import IntegerConv2D, IntegerDense, IntegerDepthwiseConv2D
from layers.quantize_configs import QuantizeWrapper
from mmx_tf import canonical, carriers, graph
from mmx_tf.folded_weights import folded_weights

FOLDABLE = (
    "Conv2D, DepthwiseConv2D, SeparableConv2D or Dense, each with BatchNormalization and ReLU or ReLU6 "
    "directly after it",
    "Add with ReLU or ReLU6 directly after it",
    "Concatenate",
    "GlobalAveragePooling2D",
    "AveragePooling2D",
    "MaxPooling2D",
    "ZeroPadding2D",
    "Flatten",
    "Reshape",
    "Dropout",
    "Rescaling of the image",
    "a softmax at the end",
)


class FoldError(ValueError):
    """A layer of the fixed network that has no integer form, named with its class and the way out."""

    def __init__(self, layer: keras.layers.Layer, reason: str):
        super().__init__(
            f"Layer {layer.name!r} ({type(layer).__name__}) cannot be folded: {reason} Build the network "
            f"with layers that can be: {', '.join(FOLDABLE)}."
        )


@dataclasses.dataclass
class _Codes:
    """A tensor of int8 codes whose grid is known."""

    tensor: object
    grid: Grid
    nonnegative: bool
    bits: int = 8


@dataclasses.dataclass
class _Pending:
    """An operator whose output grid is not known yet, with what is fused into it or follows on its grid."""

    emit: object  # (output_grid, activation) -> codes tensor
    source: keras.layers.Layer
    activation: str = "linear"
    batch_norm: keras.layers.Layer | None = None
    deferred: tuple = ()


def fold(fixed: keras.Model, *, weight_storage: str = "int8") -> keras.Model:
    """Builds the integer-exact twin of a fixed network.

    Args:
      fixed: a network made by `rebuild` (or loaded from its .keras file), with carriers and quantized
        weights.
      weight_storage: "int8" stores b-bit weight codes k times finer (see `finer_codes`); "int4" stores codes
        that fit in 4 bits as they are, two per byte. Bias grids differ, so it is decided here.

    Returns:
      A functional tf_keras model from float images to dequantized float32 logits. A final softmax is left
      out: its largest entry is that of the logits.

    Raises:
      FoldError: for a layer that has no integer form.
    """
    folder = _Folder(weight_storage)
    inputs = keras.Input(fixed.input_shape[1:], name=fixed.inputs[0].node.layer.name)
    results = graph.replay(fixed, _image(inputs, None), folder.call)
    outputs = []
    for result in tf.nest.flatten(results):
        if not isinstance(result, _Codes):
            raise FoldError(fixed.layers[-1], "the network's output has no carrier.")
        outputs.append(
            Dequantize(input_grid=result.grid, name=f"{_name(result.tensor)}_dequantize")(result.tensor)
        )
    return keras.Model(inputs, outputs[0] if len(outputs) == 1 else outputs, name=f"{fixed.name}_folded")


class _Folder:
    """Folds one network, call by call; see `fold`."""

    def __init__(self, weight_storage):
        self.weight_storage = weight_storage

    def call(self, layer, args, kwargs):
        """The folded value of one layer call, a `_Codes` or a `_Pending`."""
        value = args[0]
        if isinstance(layer, ActivationQuantizer):
            return self._quantize(layer, value)
        if isinstance(layer, QuantizeWrapper):
            return self._weighted(layer, _codes(layer, value))
        if carriers.is_softmax(layer) or isinstance(layer, keras.layers.Dropout):
            return value
        handler = getattr(self, f"_{type(layer).__name__}", None)
        if handler is None:
            raise FoldError(layer, "its class has no integer operator here.")
        return handler(layer, value)

    def _quantize(self, quantizer, value):
        step_size = float(quantizer.step_size.numpy())
        grid = Grid.low_bit(step_size=step_size, highest_code=quantizer.high)
        if isinstance(value, _Pending):
            nonnegative = value.activation in ("relu", "relu6")
            codes = _materialize(value, grid)
        elif value.grid == grid:
            return value
        else:
            nonnegative = value.nonnegative
            codes = IntegerRescale(input_grid=value.grid, output_grid=grid, name=quantizer.name)(value.tensor)
        if quantizer.high - quantizer.low == 255 or (quantizer.low == 0 and nonnegative):
            # The container's own saturation, or the source itself, is the lower clip.
            return _Codes(codes, grid, nonnegative, quantizer.bits)
        clipped = Grid.lower_clip(step_size=step_size, lowest_code=quantizer.low)
        clip = IntegerRequantize(input_grid=grid, output_grid=clipped, name=f"{quantizer.name}_lower_clip")
        return _Codes(clip(codes), clipped, quantizer.low == 0, quantizer.bits)

    def _weighted(self, wrapper, value):
        layer = wrapper.layer
        if isinstance(layer, keras.layers.Dense) and len(value.tensor.shape) != 2:
            raise FoldError(
                layer, f"its input has shape {value.tensor.shape}; a dense layer takes (None, features)."
            )

        def emit(output_grid, activation):
            weights = folded_weights(
                wrapper, pending.batch_norm, value.grid, weight_storage=self.weight_storage
            )
            common = dict(
                input_grid=value.grid,
                output_grid=output_grid,
                activation=activation,
                activation_bits=value.bits,
                weight_bits=wrapper.quantize_config.bits,
                name=layer.name,
                **dataclasses.asdict(weights),
            )
            if isinstance(layer, keras.layers.Dense):
                return IntegerDense(per_channel=weights.weight_scales.size > 1, **common)(value.tensor)
            window = dict(strides=layer.strides, padding=layer.padding, dilation_rate=layer.dilation_rate)
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            return (IntegerDepthwiseConv2D if depthwise else IntegerConv2D)(**common, **window)(value.tensor)

        pending = _Pending(emit, layer)
        return pending

    def _BatchNormalization(self, layer, value):
        fusable = isinstance(value, _Pending) and type(value.source).__name__ in canonical.WEIGHTED
        if not fusable or value.batch_norm or value.activation != "linear":
            raise FoldError(layer, "batch norm is folded only directly after a weighted layer.")
        value.batch_norm = layer
        return value

    def _ReLU(self, layer, value):
        if (
            not isinstance(value, _Pending)
            or value.activation != "linear"
            or not carriers.is_fusable_activation(layer)
        ):
            raise FoldError(
                layer, "ReLU and ReLU6 are fused only directly after a weighted layer or an addition."
            )
        value.activation = "relu" if layer.max_value is None else "relu6"
        return value

    def _Add(self, layer, values):
        first, second = (_codes(layer, value) for value in values)

        def emit(output_grid, activation):
            add = IntegerAdd(
                input_grids=(first.grid, second.grid),
                output_grid=output_grid,
                activation=activation,
                name=layer.name,
            )
            return add([first.tensor, second.tensor])

        return _Pending(emit, layer)

    def _GlobalAveragePooling2D(self, layer, value):
        value = _codes(layer, value)

        def emit(output_grid, activation):
            mean = IntegerMean(
                input_grid=value.grid, output_grid=output_grid, keepdims=bool(layer.keepdims), name=layer.name
            )
            return mean(value.tensor)

        # A mean keeps the sign, and what is nonnegative needs no lower clip.
        return _Pending(emit, layer, activation="relu" if value.nonnegative else "linear")

    def _Rescaling(self, layer, value):
        if not isinstance(value, _Pending) or value.source is not None or value.deferred:
            raise FoldError(layer, "Rescaling is allowed on the image only, before anything else.")
        return _image(keras.layers.Rescaling.from_config(layer.get_config())(value.emit.image), None)

    def _AveragePooling2D(self, layer, value):
        value = _codes(layer, value)
        pool = IntegerAveragePool2D(
            pool_size=layer.pool_size,
            strides=layer.strides,
            padding=layer.padding,
            grid=value.grid,
            name=layer.name,
        )
        return dataclasses.replace(value, tensor=pool(value.tensor))

    def _Concatenate(self, layer, values):
        values = [_codes(layer, value) for value in values]
        if len({value.grid for value in values}) != 1:
            raise FoldError(layer, "its inputs have different grids.")
        tensor = IntegerConcatenate(axis=layer.axis, grid=values[0].grid, name=layer.name)(
            [v.tensor for v in values]
        )
        return _Codes(tensor, values[0].grid, all(value.nonnegative for value in values))

    def _MaxPooling2D(self, layer, value):
        return _same_grid(
            value,
            lambda grid: IntegerMaxPool2D(
                pool_size=layer.pool_size,
                strides=layer.strides,
                padding=layer.padding,
                grid=grid,
                name=layer.name,
            ),
        )

    def _ZeroPadding2D(self, layer, value):
        return _same_grid(value, lambda grid: IntegerPad(padding=layer.padding, grid=grid, name=layer.name))

    def _Flatten(self, layer, value):
        return _same_grid(value, lambda grid: IntegerReshape(target_shape=(-1,), grid=grid, name=layer.name))

    def _Reshape(self, layer, value):
        shape = tuple(layer.target_shape)
        return _same_grid(value, lambda grid: IntegerReshape(target_shape=shape, grid=grid, name=layer.name))


class _ImageInput:
    """Emits the quantization of the image on the grid of its one consumer."""

    def __init__(self, image):
        self.image = image

    def __call__(self, output_grid, activation):
        return QuantizeInput(output_grid=output_grid, name=f"{_name(self.image)}_codes")(self.image)


def _image(tensor, source):
    return _Pending(_ImageInput(tensor), source)


def _materialize(pending: _Pending, grid: Grid):
    tensor = pending.emit(grid, pending.activation)
    for make_layer in pending.deferred:
        tensor = make_layer(grid)(tensor)
    return tensor


def _same_grid(value, make_layer):
    """A layer that commutes with quantization: at once on codes, later on what is still pending."""
    if isinstance(value, _Pending):
        value.deferred += (make_layer,)
        return value
    return dataclasses.replace(value, tensor=make_layer(value.grid)(value.tensor))


def _codes(layer, value) -> _Codes:
    if not isinstance(value, _Codes):
        raise FoldError(layer, "its input has no grid; rebuild the network with carriers=True.")
    return value


def _name(tensor) -> str:
    return tensor.node.layer.name
