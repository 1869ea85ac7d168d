"""Windows that slide over height and width: where they lie, and the pooling operators.

    window = Window.of((32, 32), kernel=(3, 3), strides=(2, 2), dilation=(1, 1), same=True)
    window.output                                          # (16, 16)
    for row, column, patch in window.taps(codes, fill=0):  # patch [N, 16, 16, C]: one tap's inputs
        ...

SAME pads so that the output has ceil(input / stride) places; of an odd amount the larger half is below and
right.
"""

from dataclasses import dataclass

import numpy as np

from mmx_tf.export.reference import rounding
from mmx_tf.export.reference.bounds import activation_bounds, saturate
from mmx_tf.export.reference.kernels import computes

SAME, VALID = 0, 1


@dataclass(frozen=True)
class Window:
    """A sliding window; every field is a pair (height, width).

    Attributes:
      kernel, strides, dilation: its size in taps, its step, the distance of its taps.
      before: rows and columns of padding above and left.
      output: number of places.
    """

    kernel: tuple
    strides: tuple
    dilation: tuple
    before: tuple
    output: tuple

    @classmethod
    def of(cls, size, *, kernel, strides, dilation, same):
        """The window over an input of `size` (height, width). ValueError when it fits nowhere."""
        reach = [(taps - 1) * step + 1 for taps, step in zip(kernel, dilation, strict=True)]
        if same:
            output = [-(-length // stride) for length, stride in zip(size, strides, strict=True)]
        else:
            output = [(size[i] - reach[i]) // strides[i] + 1 for i in range(2)]
        if min(output) < 1:
            raise ValueError(f"a window that reaches over {tuple(reach)} does not fit into {tuple(size)}.")
        missing = [max((output[i] - 1) * strides[i] + reach[i] - size[i], 0) for i in range(2)]
        before = tuple(amount // 2 for amount in missing)
        return cls(tuple(kernel), tuple(strides), tuple(dilation), before, tuple(output))

    @classmethod
    def from_options(cls, size, kernel, options):
        """The window of a convolution's or a pooling's options."""
        # Pooling has no dilation.
        dilation = (getattr(options, "dilationHFactor", 1), getattr(options, "dilationWFactor", 1))
        strides = (options.strideH, options.strideW)
        return cls.of(size, kernel=kernel, strides=strides, dilation=dilation, same=options.padding == SAME)

    def taps(self, values, *, fill):
        """Yield (row, column, values under that tap [N, *output, C]); outside the input lies `fill`."""
        padded = self.pad(values, fill)
        (height, width), (down, right) = self.output, self.strides
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                top, left = row * self.dilation[0], column * self.dilation[1]
                bottom, end = top + (height - 1) * down + 1, left + (width - 1) * right + 1
                yield row, column, padded[:, top:bottom:down, left:end:right, :]

    def behind(self, size):
        """Rows and columns of padding below and right of an input of `size` (height, width)."""
        ends = [
            (self.output[i] - 1) * self.strides[i] + (self.kernel[i] - 1) * self.dilation[i] + 1
            for i in range(2)
        ]
        return tuple(max(ends[i] - self.before[i] - size[i], 0) for i in range(2))

    def pad(self, values, fill):
        """[N, H, W, C] -> with the rows and columns of `fill` that the window reaches beyond the input."""
        amounts = [(0, 0), *zip(self.before, self.behind(values.shape[1:3]), strict=True)]
        if not any(sum(pair) for pair in amounts):
            return values
        return np.pad(values, [*amounts, (0, 0)], constant_values=fill)


@computes("MAX_POOL_2D")
def max_pool(operator, inputs, rules):
    """MAX_POOL_2D: the largest code under the window; padding does not count."""
    codes, window = inputs[0], _pooling_window(operator, inputs[0])
    largest = np.full((len(codes), *window.output, codes.shape[3]), -128, np.int8)
    for _, _, patch in window.taps(codes, fill=-128):
        np.maximum(largest, patch, out=largest)
    return saturate(largest, activation_bounds(operator, rules))


@computes("AVERAGE_POOL_2D", in_xnnpack=False)
def average_pool(operator, inputs, rules):
    """AVERAGE_POOL_2D: the mean of the codes under the window without its padding, halves away from zero.

    The codes are averaged as they are: by the specification input and output share one grid.
    """
    codes, window = inputs[0], _pooling_window(operator, inputs[0])
    sums = sum(patch for _, _, patch in window.taps(codes.astype(np.int32), fill=0))
    inside = np.ones((1, *codes.shape[1:3], 1), np.int32)
    counts = sum(patch for _, _, patch in window.taps(inside, fill=0))
    return saturate(rounding.divide_half_away(sums, counts), activation_bounds(operator, rules))


def _pooling_window(operator, codes):
    options = operator.options
    return Window.from_options(codes.shape[1:3], (options.filterHeight, options.filterWidth), options)
