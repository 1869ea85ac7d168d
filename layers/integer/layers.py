"""Integer layers: one tf_keras layer per TFLite operator, computing the same int8 codes as the operator.

Tensors between these layers hold int8 codes (-128..127) as float32; each layer knows the `Grid` of its
input(s) and of its output. A functional model of them is the *folded* model; `export.writing.tflite.convert`
writes it operator by operator.

    >>> from mmx_tf.layers.grid import Grid
    >>> grid, wider = Grid(0.02, 0), Grid(0.04, 0)
    >>> image = keras.Input((32, 32, 3))                       # float, as the training network saw it
    >>> codes = QuantizeInput(output_grid=grid)(image)         # the input tensor of the file
    >>> total = IntegerAdd(input_grids=(grid, grid), output_grid=wider)([codes, codes])
    >>> twice = Dequantize(input_grid=wider)(total)            # float again; the file ends with the codes
    >>> keras.Model(image, twice)(tf.ones([1, 32, 32, 3])).numpy().max().round(2)
    np.float32(2.0)

Convolutions and dense are in `weighted`, pooling and shape layers in `shapes`. A layer for another operator
subclasses `IntegerLayer`, says which layer it is the form of (`form_of`), and gets a writer in
`mmx_tf.export.writing`.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.as_written import AsWritten
from mmx_tf.layers.grid import as_grid
from mmx_tf.layers.integer import arithmetic

register = keras.saving.register_keras_serializable(package="mmx_tf")


FORMS: dict[str, type] = {}
"""Class of a layer of canonical networks, by name -> the integer layer that has its settings by its names."""


def form_of(*kinds: str) -> Callable:
    """A decorator of the integer layer that layers of these classes become, with nothing else to be done."""

    def note(integer_layer):
        FORMS.update(dict.fromkeys(kinds, integer_layer))
        return integer_layer

    return note


def as_lists(value):
    """Tuples in a setting as the lists that JSON has."""
    return [as_lists(part) for part in value] if isinstance(value, tuple) else value


NOT_FINITE = "images hold NaN or infinite values: give finite ones"


def finite_images(images: tf.Tensor) -> tf.Tensor:
    """The images, for which the call fails if they hold NaN or infinity: of these any code would come out."""
    return tf.debugging.check_numerics(images, NOT_FINITE)


class IntegerLayer(AsWritten, keras.layers.Layer):
    """Base: one tensor of codes on `input_grid` -> one tensor of codes on `output_grid`. Not trainable.

    Attributes:
      settings: what else the layer is made with: name -> function that reads the value. They are attributes,
        and in the config. One with a default has it as attribute of the class.

    Raises:
      TypeError: for a setting that is missing.
    """

    settings: Mapping[str, Callable] = {}

    def __init__(self, *, input_grid, output_grid, **kwargs):
        own = {name: read(kwargs.pop(name)) for name, read in self.settings.items() if name in kwargs}
        # Codes must stay float32 whatever the session's mixed-precision policy is: float16 cannot hold
        # accumulators.
        super().__init__(**{**kwargs, "dtype": "float32", "trainable": False})
        self.input_grid = as_grid(input_grid)
        self.output_grid = as_grid(output_grid)
        for name, value in own.items():
            setattr(self, name, value)
        missing = [name for name in self.settings if not hasattr(self, name)]
        if missing:
            raise TypeError(f"{type(self).__name__} {self.name!r} is made without {', '.join(missing)}.")

    def get_config(self):
        """Config with the grids as plain numbers, and the settings."""
        grids = {"input_grid": self.input_grid.get_config(), "output_grid": self.output_grid.get_config()}
        return {**super().get_config(), **grids} | {
            name: as_lists(getattr(self, name)) for name in self.settings
        }


class SameGridLayer(IntegerLayer):
    """Base of the operators that TFLite defines on one grid: `grid` is the grid of input(s) and output."""

    def __init__(self, *, grid, **kwargs):
        super().__init__(input_grid=grid, output_grid=grid, **kwargs)

    def get_config(self):
        """Config with the one grid."""
        config = super().get_config()
        del config["input_grid"]
        grid = config.pop("output_grid")
        return {**config, "grid": grid}


class BinaryLayer(AsWritten, keras.layers.Layer):
    """Base: two code tensors on `input_grids` (a pair) -> codes on `output_grid`, fused linear|relu|relu6."""

    def __init__(self, *, input_grids, output_grid, activation="linear", **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "trainable": False})
        first, second = input_grids
        self.input_grids = (as_grid(first), as_grid(second))
        self.output_grid = as_grid(output_grid)
        self.activation = activation
        arithmetic.activation_bounds(activation, self.output_grid)

    def get_config(self):
        """Config with the grids as plain numbers."""
        return {
            **super().get_config(),
            "input_grids": [grid.get_config() for grid in self.input_grids],
            "output_grid": self.output_grid.get_config(),
            "activation": self.activation,
        }

    def _arguments(self):
        grids = {
            "grid_a": self.input_grids[0],
            "grid_b": self.input_grids[1],
            "output_grid": self.output_grid,
        }
        return {**grids, "activation": self.activation}


@register
class QuantizeInput(AsWritten, keras.layers.Layer):
    """Float tensor -> codes on `output_grid`: round half to even of x * (1 / scale).

    The product with the float32 reciprocal is the rule of XNNPACK's float-to-int8 QUANTIZE, and of
    `Grid.quantize`.
    """

    def __init__(self, *, output_grid, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "trainable": False})
        self.output_grid = as_grid(output_grid)

    def call(self, inputs):
        """Quantize `inputs` of any shape; fails (tf.errors.InvalidArgumentError) if they are not finite."""
        return arithmetic.quantize(finite_images(inputs), self.output_grid)

    def get_config(self):
        """Config with the grid as plain numbers."""
        return {**super().get_config(), "output_grid": self.output_grid.get_config()}


@register
class Dequantize(AsWritten, keras.layers.Layer):
    """Codes on `input_grid` -> float32: (code - zero_point) * scale. The last layer of a folded model.

    Args:
      input_grid: of the codes.
      activation: the last activation of the network that was folded, "softmax" (which is left out), "sigmoid"
        or "hard_sigmoid" (which are layers before this one); None for any other, or none.
      loss: name of the loss that it was trained with, None if that is not known.
    """

    def __init__(self, *, input_grid, activation=None, loss=None, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "trainable": False})
        self.input_grid = as_grid(input_grid)
        self.activation, self.loss = activation, loss

    def call(self, inputs):
        """Dequantize `inputs` of any shape."""
        return (inputs - float(self.input_grid.zero_point)) * self.input_grid.scale

    def get_config(self):
        """Config with the grid as plain numbers."""
        own = {"input_grid": self.input_grid.get_config(), "activation": self.activation, "loss": self.loss}
        return {**super().get_config(), **own}


@register
class IntegerRequantize(IntegerLayer):
    """int8 -> int8 QUANTIZE: moves codes to another grid; its saturation clips (see `layers.grid`).

    The operator rounds s_in / s_out to a multiple of 1/256 (see `arithmetic.requantize`): right for grids of
    one scale. Between different scales use `IntegerRescale`.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        arithmetic.requantize_multiplier(self.input_grid, self.output_grid)

    def call(self, inputs):
        """Requantize codes of any shape."""
        return arithmetic.requantize(inputs, input_grid=self.input_grid, output_grid=self.output_grid)


@register
class IntegerRescale(IntegerLayer):
    """MUL by the constant 1: moves codes to a grid of another scale by the full float32 ratio.

    With a fused `activation` ("relu", "relu6") it is that activation where no operator before it fuses one.
    """

    def __init__(self, *, activation="linear", **kwargs):
        super().__init__(**kwargs)
        self.activation = activation
        arithmetic.activation_bounds(activation, self.output_grid)
        arithmetic.multiply_multiplier(self.input_grid, self.constant_grid, self.output_grid)

    @property
    def constant_grid(self):
        """The grid on which the constant that the codes are multiplied by is 1."""
        return arithmetic.ONE

    def call(self, inputs):
        """Rescale codes of any shape."""
        return arithmetic.rescale(
            inputs, input_grid=self.input_grid, output_grid=self.output_grid, activation=self.activation
        )

    def get_config(self):
        """Config with the activation."""
        return {**super().get_config(), "activation": self.activation}


@form_of("Add")
@register
class IntegerAdd(BinaryLayer):
    """ADD of two code tensors of one shape."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        arithmetic.add_constants(*self.input_grids, self.output_grid)

    def call(self, inputs):
        """`inputs`: a list of two code tensors."""
        first, second = inputs
        return arithmetic.add(first, second, **self._arguments())


@form_of("Multiply")
@register
class IntegerMul(BinaryLayer):
    """MUL of two code tensors, with broadcasting (squeeze-excite: [N,H,W,C] times [N,1,1,C])."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        arithmetic.multiply_multiplier(*self.input_grids, self.output_grid)

    def call(self, inputs):
        """`inputs`: a list of two code tensors."""
        first, second = inputs
        return arithmetic.multiply(first, second, **self._arguments())


@form_of("GlobalAveragePooling2D")
@register
class IntegerMean(IntegerLayer):
    """MEAN over height and width (global average pooling): [N,H,W,C] -> [N,C]; [N,1,1,C] with `keepdims`."""

    settings = {"keepdims": bool}
    keepdims = False

    def call(self, inputs):
        """Average NHWC codes whose height and width are known."""
        return arithmetic.mean(
            inputs, input_grid=self.input_grid, output_grid=self.output_grid, keepdims=self.keepdims
        )
