"""One operator of the file for each call of the fixed network: the work behind `mmx_tf.fold`.

`IntegerGraph.call` is the `call` of a `graph.replay` over the fixed network. What stands for a tensor is
either *codes* on a known grid, or an operator that is still *pending*: its output grid is that of the
quantizer that consumes it, and activation, batch norm, padding and the like are gathered until then.
"""

import dataclasses

import tf_keras as keras

from layers.activation_quantizer import ActivationQuantizer
from layers.grid import Grid
from layers.integer_layers import (
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
from mmx_tf import canonical, carriers
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
class Codes:
    """A tensor of int8 codes whose grid is known."""

    tensor: object
    grid: Grid
    nonnegative: bool
    bits: int = 8


@dataclasses.dataclass
class Pending:
    """An operator whose output grid is not known yet, with what is fused into it or follows on its grid."""

    emit: object  # (output_grid, activation) -> codes tensor
    source: keras.layers.Layer | None
    activation: str = "linear"
    batch_norm: keras.layers.Layer | None = None
    deferred: tuple = ()


class IntegerGraph:
    """Folds one network, call by call."""

    def __init__(self, weight_storage, *, last_layers, calibrated=True):
        self.weight_storage = weight_storage
        self.last_layers = last_layers
        self.calibrated = calibrated

    def call(self, layer, args, kwargs):
        """The folded value of one layer call, a `Codes` or a `Pending`."""
        value = args[0]
        if isinstance(layer, ActivationQuantizer):
            return self._quantize(layer, value)
        if isinstance(layer, QuantizeWrapper):
            return self._weighted(layer, _codes(layer, value))
        final_softmax = carriers.is_softmax(layer) and layer.name in self.last_layers
        if final_softmax or isinstance(layer, keras.layers.Dropout):
            return value
        handler = getattr(self, f"_{type(layer).__name__}", None)
        if handler is None:
            raise FoldError(layer, "its class has no integer operator here.")
        return handler(layer, value)

    def _quantize(self, quantizer, value):
        if self.calibrated and not bool(quantizer.initialized):
            raise FoldError(quantizer, "it has seen no image yet, so its step size means nothing.")
        step_size = float(quantizer.step_size.numpy())
        grid = Grid.low_bit(step_size=step_size, highest_code=quantizer.high)
        if isinstance(value, Pending):
            nonnegative = value.activation in ("relu", "relu6")
            codes = _materialize(value, grid)
        elif value.grid == grid:
            return value
        else:
            nonnegative = value.nonnegative
            codes = IntegerRescale(input_grid=value.grid, output_grid=grid, name=quantizer.name)(value.tensor)
        if quantizer.high - quantizer.low == 255 or (quantizer.low == 0 and nonnegative):
            # The container's own saturation, or the source itself, is the lower clip.
            return Codes(codes, grid, nonnegative, quantizer.bits)
        clipped = Grid.lower_clip(step_size=step_size, lowest_code=quantizer.low)
        clip = IntegerRequantize(input_grid=grid, output_grid=clipped, name=f"{quantizer.name}_lower_clip")
        return Codes(clip(codes), clipped, quantizer.low == 0, quantizer.bits)

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

        pending = Pending(emit, layer)
        return pending

    def _BatchNormalization(self, layer, value):
        fusable = isinstance(value, Pending) and type(value.source).__name__ in canonical.WEIGHTED
        if not fusable or value.batch_norm or value.activation != "linear":
            raise FoldError(layer, "batch norm is folded only directly after a weighted layer.")
        value.batch_norm = layer
        return value

    def _ReLU(self, layer, value):
        if (
            not isinstance(value, Pending)
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

        return Pending(emit, layer)

    def _GlobalAveragePooling2D(self, layer, value):
        value = _codes(layer, value)

        def emit(output_grid, activation):
            mean = IntegerMean(
                input_grid=value.grid, output_grid=output_grid, keepdims=bool(layer.keepdims), name=layer.name
            )
            return mean(value.tensor)

        # A mean keeps the sign, and what is nonnegative needs no lower clip.
        return Pending(emit, layer, activation="relu" if value.nonnegative else "linear")

    def _Rescaling(self, layer, value):
        if not isinstance(value, Pending) or value.source is not None or value.deferred:
            raise FoldError(layer, "Rescaling is allowed on the image only, before anything else.")
        return image(keras.layers.Rescaling.from_config(layer.get_config())(value.emit.image))

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
        return Codes(tensor, values[0].grid, all(value.nonnegative for value in values))

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
        return QuantizeInput(output_grid=output_grid, name=f"{name_of(self.image)}_codes")(self.image)


def image(tensor):
    """What stands for the network's input: a quantization that waits for its grid."""
    return Pending(_ImageInput(tensor), None)


def _materialize(pending: Pending, grid: Grid):
    tensor = pending.emit(grid, pending.activation)
    for make_layer in pending.deferred:
        tensor = make_layer(grid)(tensor)
    return tensor


def _same_grid(value, make_layer):
    """A layer that commutes with quantization: at once on codes, later on what is still pending."""
    if isinstance(value, Pending):
        value.deferred += (make_layer,)
        return value
    return dataclasses.replace(value, tensor=make_layer(value.grid)(value.tensor))


def _codes(layer, value) -> Codes:
    if not isinstance(value, Codes):
        raise FoldError(layer, "its input has no grid; rebuild the network with carriers=True.")
    return value


def name_of(tensor) -> str:
    """Name of the layer that makes a symbolic tensor."""
    return tensor.node.layer.name
