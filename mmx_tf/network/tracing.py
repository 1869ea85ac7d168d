"""Making everything a training step needs before it is traced.

Keras makes metrics and optimizer slots while it traces a training step, and TensorFlow then traces the step
once more. A search step takes long to trace; made beforehand, the variables spare the second time.
"""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer

INITIAL_IMAGES = 512
"""Most images that step sizes are initialised from, where x is an array of all of them."""


def build_before_tracing(model: keras.Model, x, y=None) -> None:
    """Makes the metrics of a compiled model for the data that `fit(x, y)` will be given.

    Does nothing where the labels' shape cannot be known without consuming data (a generator), and for models
    of several outputs.

    Args:
      model: compiled model whose output shape is known.
      x: a tf.data.Dataset of (images, labels) batches, or images.
      y: labels, if x is not a dataset.
    """
    labels = _labels_spec(x, y)
    if labels is None or model.compiled_metrics.built or not isinstance(model.output_shape, tuple):
        return
    outputs = tf.zeros([1, *model.output_shape[1:]])
    model.compiled_loss.build(outputs)
    model.compiled_metrics.build(outputs, tf.zeros([1, *labels.shape[1:]], labels.dtype))


def build_optimizer(optimizer, variables) -> None:
    """Makes an optimizer's slots for the variables that it will train, if it has none yet.

    Raises:
      ValueError: if it has slots, and none for some of these variables.
    """
    known = getattr(optimizer, "_index_dict", None)
    if getattr(optimizer, "_built", False) and known:
        unknown = [variable.name for variable in variables if optimizer._var_key(variable) not in known]
        if unknown:
            raise ValueError(
                f"the optimizer {type(optimizer).__name__} has trained another network, or this one before "
                f"layers were unfrozen: it keeps nothing for {unknown[0]}. Give compile a new one."
            )
    # Optimizers of the legacy classes have another name for it.
    build = optimizer.build if hasattr(optimizer, "build") else optimizer._create_all_weights
    build(variables)


def initialize_before_tracing(model: keras.Model, network: keras.Model, x, **kwargs) -> None:
    """Runs the first batch through a model whose step sizes are not all set yet, and changes nothing else.

    A step that is traced before has a conditional in front of every quantizer, which keeps the output of the
    batch norm and the ReLU before it in use (`layers.sources`): a third more memory, and slower.

    Args:
      model: what is called, with training=True and the other arguments.
      network: the functional network that holds the quantizers.
      x: a tf.data.Dataset of (images, labels) batches, or images; of anything else nothing is taken.
      **kwargs: passed on to the call.
    """
    if all_initialized(network):
        return
    if isinstance(x, tf.data.Dataset) and isinstance(x.element_spec, tuple):
        x = next(iter(x.take(1)))[0]
    if not tf.is_tensor(x) and not isinstance(x, np.ndarray):
        return
    steps = [v for q in _quantizers(network) for v in q.weights]
    kept = [v for v in network.non_trainable_variables if not any(v is step for step in steps)]
    values = [tf.identity(variable) for variable in kept]
    model(x[:INITIAL_IMAGES], training=True, **kwargs)
    for variable, value in zip(kept, values, strict=True):
        variable.assign(value)


def all_initialized(network: keras.Model) -> bool:
    """Whether the step sizes of all activation quantizers have been set."""
    return all(bool(tf.reduce_all(quantizer.initialized)) for quantizer in _quantizers(network))


def _quantizers(network) -> list:
    return [q for q in network.layers if isinstance(q, ActivationQuantizer | MultiBranchQuantizer)]


def _labels_spec(x, y):
    if isinstance(x, tf.data.Dataset):
        spec = x.element_spec
        y = spec[1] if isinstance(spec, tuple) and len(spec) > 1 else None
    if not (hasattr(y, "shape") and hasattr(y, "dtype")):
        return None
    return y if tf.TensorShape(y.shape)[1:].is_fully_defined() else None
