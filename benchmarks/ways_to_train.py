"""One training step of a float network in every way that is compared, ready to be timed or weighed.

    >>> step = prepared("meta", "mobilenet_v2", batch_size=128)
    >>> step()                            # the first call traces and compiles

All steps are given the same random images and labels, the same optimizer of the weights (SGD with momentum)
and metric. What Keras would make while it traces (metrics, optimizer slots) is made beforehand for all, so
that a first call traces once.
"""

import contextlib
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras.experimental.default_n_bit import (
    default_n_bit_quantize_scheme as n_bit,
)

import mmx_tf
from mmx_tf.layers.fusion import initialize_before_tracing
from mmx_tf.network.tracing import build_before_tracing
from mmx_tf.training.compute_dtype import convolutions_in

IMAGE_SHAPE = (32, 32, 3)
CLASSES = 10
BIT_WIDTHS = (8, 4, 3)
BITS = 4

NETWORKS = {
    "mobilenet_v2": lambda: mmx_tf.models.build(
        "mobilenet_v2", input_shape=IMAGE_SHAPE, num_classes=CLASSES, width=0.5
    ),
    "resnet18": lambda: mmx_tf.models.build(
        "resnet18", input_shape=IMAGE_SHAPE, num_classes=CLASSES, width=0.25
    ),
}

Step = Callable[[], None]


class PeerRefusedError(ValueError):
    """A peer that cannot train a network; the message is the peer's own."""


def random_batch(batch_size: int, image_shape=IMAGE_SHAPE, classes: int = CLASSES):
    """Images in [-1, 1] and labels, of a fixed seed."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (batch_size, *image_shape)).astype(np.float32)
    return tf.constant(images), tf.constant(rng.integers(0, classes, batch_size))


def compiled(model: keras.Model, images, labels) -> keras.Model:
    """The model, ready to train, with everything made that tracing would make."""
    model.compile(
        optimizer=keras.optimizers.SGD(1e-3, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    if not isinstance(model, mmx_tf.SearchModel):  # which has built its three
        model.optimizer.build(model.trainable_variables)
    build_before_tracing(model, images, labels)
    return model


def _search(network, images, labels):
    search = compiled(mmx_tf.augment(network, bit_widths=BIT_WIDTHS, weight_bits=BITS), images, labels)
    initialize_before_tracing(search, search.network, images, branch=0)  # as fit does
    return search


def _float(network, images, labels):
    model = compiled(network, images, labels)
    return model, lambda images, labels: model.train_step((images, labels))


def _meta(network, images, labels):
    search = _search(network, images, labels)
    return search, search.bit_meta_step


def _bit_search(network, images, labels):
    search = _search(network, images, labels)
    return search, search.bit_search_step


def _meta_and_search(network, images, labels):
    search = _search(network, images, labels)
    search.searching.assign(True)
    return search, lambda images, labels: search.train_step((images, labels))


def _fixed(network, images, labels, *, share_step_sizes=False):
    search = mmx_tf.augment(network, bit_widths=BIT_WIDTHS, weight_bits=BITS)
    search(images[:2], branch=0)  # gives every branch its first step size
    branch = BIT_WIDTHS.index(BITS)
    selection = search.selection_of([branch] * len(search.quantizers))
    fixed = mmx_tf.rebuild(search, selection, share_step_sizes=share_step_sizes)
    initialize_before_tracing(fixed, fixed, images)  # as the command line does
    return _float(fixed, images, labels)


def _quantized_by_tfmot(quantize: Callable[[], keras.Model]) -> keras.Model:
    # Only tfmot's own call: an error of the benchmark must not pass for one of the peer.
    try:
        return quantize()
    except Exception as error:
        raise PeerRefusedError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _tfmot_8bit(network, images, labels):
    quantized = _quantized_by_tfmot(lambda: tfmot.quantization.keras.quantize_model(network))
    return _float(quantized, images, labels)


def _tfmot_n_bit(network, images, labels):
    scheme = n_bit.DefaultNBitQuantizeScheme(num_bits_weight=BITS, num_bits_activation=BITS)
    annotated = tfmot.quantization.keras.quantize_annotate_model(network)
    quantized = _quantized_by_tfmot(lambda: tfmot.quantization.keras.quantize_apply(annotated, scheme))
    return _float(quantized, images, labels)


WAYS = {
    "float": _float,
    "meta": _meta,
    "search": _bit_search,
    "meta_and_search": _meta_and_search,
    "fixed": _fixed,
    "fixed_shared": functools.partial(_fixed, share_step_sizes=True),
    "tfmot_8bit": _tfmot_8bit,
    "tfmot_n_bit": _tfmot_n_bit,
}
"""name -> what makes (model, step of (images, labels)) of a float network; "float" is the others' unit."""


def prepared(way: str, network: str, *, batch_size: int, compute_dtype: str = "float32") -> Step:
    """A function without arguments that takes one step and returns when it is done.

    Args:
      way: one of `WAYS`.
      network: one of `NETWORKS`.
      batch_size: images of the step.
      compute_dtype: number format of the convolutions.

    Raises:
      PeerRefusedError: tfmot does not take the network.
    """
    keras.utils.set_random_seed(0)
    images, labels = random_batch(batch_size)
    model, taking_a_step = WAYS[way](NETWORKS[network](), images, labels)
    function = tf.function(taking_a_step)
    convolutions = contextlib.ExitStack()
    convolutions.enter_context(convolutions_in(compute_dtype, model))

    def step(convolutions=convolutions):  # as long as the step lives, since its first call traces
        # Arguments, not constants; eager mode on a CPU waits for what a function assigns.
        function(images, labels)

    return step
