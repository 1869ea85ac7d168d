"""Convolutions of a network in bfloat16 while it trains; everything else stays float32.

bfloat16 halves what a convolution reads, and CPUs with AVX-512 BF16 or AMX, GPUs and TPUs multiply it
faster. Weights, step sizes, batch norm and quantizers stay float32: only the operands of a convolution are
rounded, to 8 significant bits, and its result and gradients come back as float32. Depthwise convolutions,
which gain nothing, are left alone, and so are transposed ones and those of groups. The network itself is not
changed: what is evaluated, saved and folded afterwards computes in float32.

    >>> with convolutions_in("bfloat16", float_model):
    ...     float_model(images).shape
    TensorShape([32, 10])
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf
import tf_keras as keras


@contextmanager
def convolutions_in(dtype: str, network: keras.Model) -> Iterator[None]:
    """While the block lasts, the Conv2D layers of a network, wrapped ones included, compute in `dtype`.

    Args:
      dtype: one of `COMPUTE_DTYPES`.
      network: any network; functions that Keras has compiled for it are made anew at both ends.
    """
    layers = [] if dtype == "float32" else list(_convolutions(network))
    try:
        for layer in layers:
            # Keras's documented place to replace the arithmetic; on the object, it is not saved.
            layer.convolution_op = functools.partial(_in_dtype, layer.convolution_op, tf.as_dtype(dtype))
        _forget_functions(network)
        yield
    finally:
        for layer in layers:
            del layer.convolution_op
        _forget_functions(network)


def _convolutions(network) -> Iterator[keras.layers.Layer]:
    others = (keras.layers.DepthwiseConv2D, keras.layers.Conv2DTranspose)
    for layer in network.submodules:
        if isinstance(layer, keras.layers.Conv2D) and not isinstance(layer, others) and layer.groups == 1:
            yield layer


def _in_dtype(convolution, dtype, inputs, kernel):
    return tf.cast(convolution(tf.cast(inputs, dtype), tf.cast(kernel, dtype)), inputs.dtype)


def _forget_functions(network):
    network.train_function = network.test_function = network.predict_function = None
