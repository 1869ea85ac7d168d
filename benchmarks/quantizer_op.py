"""What an activation quantizer costs, forward and backward, beside ReLU on the same tensor.

    python -m benchmarks.quantizer_op --json=results/performance/quantizer_op.json

`activation_quantizer` has 4 bits; `one_branch` and `mixed` are the search's quantizer of 8, 4 and 3 bits.
`plain_lsq` is the same quantizer as most code writes it: TensorFlow's ops and tf.stop_gradient. Convolutions
of the same tensor with as many channels out say how much an operator of that size matters. All are called
through a tf.function that is given input and upstream gradient and gives back output and every gradient, so
that TensorFlow can neither fold nor leave out anything.
"""

import argparse
import math
import sys

import tensorflow as tf
import tf_keras as keras

from benchmarks import command_line, measuring
from mmx_tf import quiet
from mmx_tf.layers.branches import MIXED
from mmx_tf.layers.lsq import lsq
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer

MODULE = "benchmarks.quantizer_op"
SHAPES = ("128x32x32x64", "128x8x8x192", "128x4x4x480", "8x4x4x16")
BIT_WIDTHS = (8, 4, 3)
BITS = 4
# One timing covers about as much work as a call on this many elements: a small tensor takes microseconds.
ELEMENTS_PER_TIMING = 2**20


class PlainLsq(keras.layers.Layer):
    """LSQ in TensorFlow's own ops, its gradients by stop_gradient, as published implementations have it."""

    def build(self, input_shape):
        """Creates the step size."""
        _, self.high = lsq.code_range(BITS, signed=False)
        self.scale = lsq.gradient_scale(math.prod(input_shape[1:]), self.high)
        self.step_size = self.add_weight("step_size", shape=(), initializer="ones")
        super().build(input_shape)

    def call(self, x):
        """Quantizes x; shape unchanged."""
        scaled_step = self.step_size * self.scale
        step = scaled_step + tf.stop_gradient(self.step_size - scaled_step)
        v = tf.clip_by_value(x / step, 0.0, float(self.high))
        return (v + tf.stop_gradient(tf.round(v) - v)) * step


def operators(channels: int) -> dict:
    """name -> (layer, its arguments besides the tensor); ReLU, the reference, comes first."""
    search = {"bit_widths": BIT_WIDTHS, "signed": False}
    return {
        "relu": (keras.layers.ReLU(), {}),
        "activation_quantizer": (ActivationQuantizer(bits=BITS, signed=False), {}),
        "one_branch": (MultiBranchQuantizer(**search), {"branch": BIT_WIDTHS.index(BITS)}),
        "mixed": (MultiBranchQuantizer(**search), {"branch": MIXED}),
        "plain_lsq": (PlainLsq(), {}),
        "depthwise_3x3": (keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False), {}),
        "conv_3x3": (keras.layers.Conv2D(channels, 3, padding="same", use_bias=False), {}),
    }


def both_passes(layer, arguments, x: tf.Tensor, upstream: tf.Tensor):
    """A function without arguments that runs the layer forward and backward on x."""
    layer(x, **arguments)

    @tf.function
    def passes(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, **arguments)
        return y, tape.gradient(y, [x, *layer.trainable_variables], output_gradients=upstream)

    return lambda: passes(x, upstream)


def measured(shape: tuple[int, ...], *, rounds: int) -> dict[str, dict]:
    """The summary of all operators on one shape."""
    x = tf.random.stateless_normal(shape, seed=(0, 1))
    upstream = tf.random.stateless_normal(shape, seed=(0, 2))
    functions = {
        name: both_passes(layer, arguments, x, upstream)
        for name, (layer, arguments) in operators(shape[-1]).items()
    }
    first_calls = {name: measuring.seconds_of(function) for name, function in functions.items()}
    calls = max(1, min(100, ELEMENTS_PER_TIMING // math.prod(shape)))
    measuring.interleaved(functions, rounds=2, calls=calls)  # warms caches and memory pools
    seconds = measuring.interleaved(functions, rounds=rounds, calls=calls)
    summary = measuring.summarized(seconds, reference="relu")
    return {name: row | {"first_call": first_calls[name]} for name, row in summary.items()}


def shape_of(text: str) -> tuple[int, ...]:
    """(batch, height, width, channels) of a word such as 128x32x32x64."""
    parts = text.split("x")
    if len(parts) != 4 or not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no shape of a batch of images; give four positive integers, such as {SHAPES[0]}."
        )
    return tuple(map(int, parts))


def shapes_of(text: str) -> list[str]:
    """The argparse type of a comma-separated list of shapes."""
    words = text.split(",")
    for word in words:
        shape_of(word)
    return words


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the tables; returns the exit code."""
    parser = command_line.argument_parser(MODULE, __doc__, rounds=30)
    help_text = f"default: {','.join(SHAPES)}"
    parser.add_argument("--shapes", type=shapes_of, default=list(SHAPES), metavar="A,B", help=help_text)
    options = parser.parse_args(argv)
    quiet.set_up_logging()
    results = {}
    for word in options.shapes:
        results[word] = measured(shape_of(word), rounds=options.rounds)
        print(measuring.table(word, results[word]), flush=True)
    command_line.write_results(MODULE, options, unit="s", results=results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
