"""Integer convolution, depthwise convolution and dense: int8 weights, int32 bias, exact accumulators.

A layer holds exactly what the file will hold: *stored* weight codes and their float32 scales, bias codes on
the grid s_in * s_w[c]. How weights are stored is therefore decided when the layer is made (`container`),
not at export.

b-bit weights gain from `finer_codes`: codes times k at scale / k are the same values, but the bias grid and
the first rounding of the builtin kernels become k times finer. The layer takes the common factor out of its
sum again, so that float32 convolution stays exact (|sum| < 2^24) and fast. GPU kernels may use TensorFloat-32
or Winograd, which are not exact, so the sums are placed on the CPU.
"""

import math

import numpy as np
import tensorflow as tf

from mmx_tf.layers.grid import HIGHEST, LOWEST
from mmx_tf.layers.integer import arithmetic
from mmx_tf.layers.integer.layers import IntegerLayer, register
from mmx_tf.layers.integer.storage import CONTAINERS, row_length


def finer_factor(bits):
    """k = 127 // (2^(bits-1) - 1), the largest factor by which `bits`-bit codes fit int8.

    ValueError for bits outside 2..8.
    """
    if bits not in range(2, 9):
        raise ValueError(f"bits is {bits!r}; weights have 2..8 bits.")
    return HIGHEST // (2 ** (bits - 1) - 1)


def finer_codes(codes, scales, *, bits):
    """(codes * k, float32 scales / k), k = `finer_factor(bits)`: the same weights on a k times finer grid.

    `codes`: int array in +-(2^(bits-1) - 1); `scales`: float array. ValueError for bits outside 2..8 or
    larger codes.
    """
    k, highest = finer_factor(bits), 2 ** (bits - 1) - 1
    if np.max(np.abs(codes), initial=0) > highest:
        raise ValueError(f"a code is {int(np.max(np.abs(codes)))}; {bits}-bit weights allow +-{highest}.")
    return np.asarray(codes, np.int8) * np.int8(k), np.asarray(scales, np.float32) / np.float32(k)


class WeightedLayer(IntegerLayer):
    """Base of the three: weights, requantization and the choice of an exact accumulation.

    Args:
      weight_codes: int array in the layout of the Keras layer. This, scales and bias are None only when a
        saved model is loaded, which fills them in.
      weight_scales: float32, one per output channel (a dense layer may have a single one).
      bias_codes: int32, one per output channel, on the grid s_in * s_w.
      activation: fused activation, "linear", "relu" or "relu6".
      container: of the weights, one of `storage.CONTAINERS`.
      activation_bits, weight_bits: the widths that input and weights were trained at; they do not change the
        arithmetic, the file records them.

    Raises:
      ValueError: for codes outside the storage, wrong shapes, or an accumulator that could leave int32.
    """

    output_axes = (-1,)
    packable = True
    """Whether there are kernels that take the weights packed."""

    def __init__(
        self,
        *,
        weight_codes=None,
        weight_scales=None,
        bias_codes=None,
        activation="linear",
        container="int8",
        weight_shape=None,
        accumulation=None,
        code_factor=1,
        activation_bits=8,
        weight_bits=8,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.activation = activation
        self.container = container
        self.bounds = arithmetic.activation_bounds(activation, self.output_grid)
        if container not in CONTAINERS:
            raise ValueError(f"container is {container!r}; use one of {', '.join(CONTAINERS)}.")
        self.weight_shape = tuple(np.shape(weight_codes)) if weight_codes is not None else tuple(weight_shape)
        self.accumulation, self.code_factor = accumulation, code_factor
        self.activation_bits, self.weight_bits = int(activation_bits), int(weight_bits)
        channels = self.output_channels
        scale_count = self.scale_count
        self.weight_codes = self._variable("weight_codes", self.weight_shape, tf.int8)
        self.weight_scales = self._variable("weight_scales", (scale_count,), tf.float32)
        self.bias_codes = self._variable("bias_codes", (channels,), tf.int32)
        # Stored rather than recomputed: a division in the graph may be rewritten as a product with the
        # reciprocal.
        self.multipliers = self._variable("multipliers", (scale_count,), tf.float32)
        if weight_codes is not None:
            self._set(np.asarray(weight_codes), np.asarray(weight_scales, np.float32), np.asarray(bias_codes))

    @property
    def output_channels(self):
        """Number of output channels."""
        return math.prod(self.weight_shape[axis] for axis in self.output_axes)

    @property
    def scale_count(self):
        """Number of weight scales: one per output channel."""
        return self.output_channels

    @property
    def row_length(self) -> int | None:
        """See `storage.row_length`."""
        return row_length(self.weight_shape)

    def _variable(self, name, shape, dtype):
        return self.add_weight(name=name, shape=shape, dtype=dtype, initializer="zeros", trainable=False)

    def _set(self, codes, scales, bias):
        scales = np.atleast_1d(scales)
        for what, value, shape in (
            ("weight_scales", scales, (self.scale_count,)),
            ("bias_codes", bias, (self.output_channels,)),
        ):
            if value.shape != shape:
                raise ValueError(f"{self.name}: {what} has shape {value.shape}; it must be {shape}.")
        low, high = CONTAINERS[self.container]
        if codes.min(initial=0) < low or codes.max(initial=0) > high or np.any(codes != np.rint(codes)):
            raise ValueError(
                f"{self.name}: weight codes span {codes.min()}..{codes.max()}; "
                f"an {self.container} container allows the integers {low}..{high}."
            )
        codes = codes.astype(np.int64)
        self.accumulation, self.code_factor = self._plan(codes, bias.astype(np.int64))
        multipliers = arithmetic.weight_multipliers(self.input_grid, scales, self.output_grid)
        self.set_weights([codes.astype(np.int8), scales, bias.astype(np.int32), multipliers])

    def _plan(self, codes, bias):
        """(accumulation, factor): which float type holds every partial sum exactly, whatever the input."""
        largest_input = max(HIGHEST - self.input_grid.zero_point, self.input_grid.zero_point - LOWEST)
        axes = tuple(axis for axis in range(codes.ndim) if axis - codes.ndim not in self.output_axes)
        sums = np.abs(codes).sum(axis=axes).reshape(-1) * largest_input
        if np.max(sums + np.abs(bias)) >= 2**31:
            raise ValueError(
                f"{self.name}: the accumulator can reach {int(np.max(sums + np.abs(bias)))}, outside int32. "
                "Use coarser weight codes or check the bias."
            )
        if np.max(sums + np.abs(bias)) < arithmetic.EXACT_FLOAT32:
            return "float32", 1
        factor = max(1, int(np.gcd.reduce(np.abs(codes), axis=None)))
        return ("float32_sum" if np.max(sums) // factor < arithmetic.EXACT_FLOAT32 else "float64"), factor

    def linear(self, inputs, weights):
        """The operator itself on zero-point-free inputs and weights of one float dtype."""
        raise NotImplementedError

    def call(self, inputs):
        """Codes on `input_grid` -> codes on `output_grid`."""
        dtype = tf.float64 if self.accumulation == "float64" else tf.float32
        # Python's factor divides every code, so the quotient is exact in either type.
        weights = tf.cast(self.weight_codes // tf.constant(self.code_factor, tf.int8), dtype)
        with tf.device("/CPU:0"):
            total = self.linear(tf.cast(inputs, dtype) - float(self.input_grid.zero_point), weights)
        if self.accumulation == "float32":
            accumulator = total + tf.cast(self.bias_codes, tf.float32)
        else:
            accumulator = tf.cast(total, tf.float64) * self.code_factor + tf.cast(self.bias_codes, tf.float64)
        return arithmetic.requantize_accumulator(
            accumulator, self.multipliers, self.output_grid.zero_point, self.bounds
        )

    def get_config(self):
        """Config with shapes and choices; the arrays are saved as the layer's weights."""
        return {
            **super().get_config(),
            "activation": self.activation,
            "container": self.container,
            "weight_shape": list(self.weight_shape),
            "accumulation": self.accumulation,
            "code_factor": self.code_factor,
            "activation_bits": self.activation_bits,
            "weight_bits": self.weight_bits,
        }


class _Windowed(WeightedLayer):
    """Strides, padding and dilation of the two convolutions; padding is real zero: the input's zero point."""

    def __init__(self, *, strides=(1, 1), padding="valid", dilation_rate=(1, 1), **kwargs):
        super().__init__(**kwargs)
        self.strides, self.dilation_rate = pair("strides", strides), pair("dilation_rate", dilation_rate)
        self.padding = checked_padding(padding)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"strides {self.strides} with dilation_rate {self.dilation_rate}: one of them must be 1."
            )

    @property
    def row_length(self) -> int | None:
        """See `storage.row_length`."""
        return row_length(self.weight_shape, strides=self.strides)

    def get_config(self):
        """Config with strides, padding and dilation."""
        return {
            **super().get_config(),
            "strides": list(self.strides),
            "padding": self.padding,
            "dilation_rate": list(self.dilation_rate),
        }


@register
class IntegerConv2D(_Windowed):
    """CONV_2D. weight_codes [height, width, in, out]."""

    def linear(self, inputs, weights):
        """NHWC convolution."""
        return tf.nn.conv2d(inputs, weights, self.strides, self.padding.upper(), dilations=self.dilation_rate)


@register
class IntegerDepthwiseConv2D(_Windowed):
    """DEPTHWISE_CONV_2D. weight_codes [height, width, channels, multiplier]."""

    output_axes = (-2, -1)
    row_length = None

    def linear(self, inputs, weights):
        """NHWC depthwise convolution."""
        return depthwise(
            inputs, weights, strides=self.strides, padding=self.padding, dilation_rate=self.dilation_rate
        )


@register
class IntegerAffine(IntegerDepthwiseConv2D):
    """DEPTHWISE_CONV_2D by constants: y = factor * x + bias per channel, or the mean of a window.

    With one weight a channel, the scale holds the factor itself: the code is its sign times 127.
    """


@register
class IntegerDense(WeightedLayer):
    """FULLY_CONNECTED on [N, in]. weight_codes [in, out]; one weight scale, or one per output."""

    def __init__(self, *, per_channel=False, **kwargs):
        self.per_channel = bool(per_channel)  # the base asks for `scale_count`
        super().__init__(**kwargs)

    @property
    def scale_count(self):
        """One scale for the whole tensor, or one per output."""
        return self.output_channels if self.per_channel else 1

    def linear(self, inputs, weights):
        """Matrix product."""
        return tf.linalg.matmul(inputs, weights)

    def get_config(self):
        """Config with `per_channel`."""
        return {**super().get_config(), "per_channel": self.per_channel}


def depthwise(inputs, weights, *, strides, padding, dilation_rate=(1, 1)):
    """tf.nn.depthwise_conv2d, with unequal strides too, which TensorFlow's kernel lacks."""
    if strides[0] == strides[1]:
        return tf.nn.depthwise_conv2d(
            inputs, weights, (1, *strides, 1), padding.upper(), dilations=dilation_rate
        )
    if padding == "same":
        around = [
            max((-(-length // stride) - 1) * stride + window - length, 0)
            for length, stride, window in zip(inputs.shape[1:3], strides, weights.shape[:2], strict=True)
        ]
        inputs = tf.pad(inputs, [(0, 0), *((both // 2, both - both // 2) for both in around), (0, 0)])
    dense = tf.nn.depthwise_conv2d(inputs, weights, (1, 1, 1, 1), "VALID")
    return dense[:, :: strides[0], :: strides[1]]


def pair(name, value):
    """A pair of positive ints from one int or a pair; ValueError names `name`."""
    pair = (value, value) if isinstance(value, int) else tuple(int(item) for item in value)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"{name} is {value!r}; give one or two positive ints.")
    return pair


def checked_padding(padding: str) -> str:
    """The padding; ValueError if it is neither 'same' nor 'valid'."""
    if padding not in ("same", "valid"):
        raise ValueError(f"padding is {padding!r}; use 'same' or 'valid'.")
    return padding


def whole_numbers(values) -> tuple[int, ...]:
    """The values as ints."""
    return tuple(int(value) for value in values)
