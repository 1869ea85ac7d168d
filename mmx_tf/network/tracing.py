"""Making the variables that a training step needs before it is traced.

Keras makes metrics and optimizer slots while it traces a training step, and TensorFlow then traces the step
once more. A search step takes long to trace; made beforehand, the variables spare the second time. Step sizes
are set by then too: `mmx_tf.layers.fusion`.
"""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.export.comparing.outputs import Outputs


def build_before_tracing(model: keras.Model, x, y=None) -> None:
    """Makes the metrics of a compiled model for the data that `fit(x, y)` will be given.

    Does nothing where the labels' shape cannot be known without consuming data (a generator).

    Args:
      model: compiled model whose output shape is known.
      x: a tf.data.Dataset of (images, labels) batches, or images.
      y: labels, if x is not a dataset.
    """
    network = getattr(model, "trained_network", model)
    named = Outputs.of(network, model.output_names)
    given = named.each(_labels_of(x, y), "labels have")
    labels = [_zeros(part) for part in given]
    known = [part is None or label is not None for part, label in zip(given, labels, strict=True)]
    if model.compiled_metrics.built or not all(known) or all(part is None for part in given):
        return
    outputs = named.packed([tf.zeros([1, *tensor.shape[1:]]) for tensor in network.outputs])
    model.compiled_loss.build(outputs)
    model.compiled_metrics.build(outputs, named.packed(labels))


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


def _labels_of(x, y):
    """Labels, or what is known of them."""
    if isinstance(x, tf.data.Dataset):
        spec = x.element_spec
        return spec[1] if isinstance(spec, tuple) and len(spec) > 1 else None
    return y


def _zeros(labels) -> tf.Tensor | None:
    """A label of the shape and dtype of those of an output; None where that is not known."""
    if not (hasattr(labels, "shape") and hasattr(labels, "dtype")):
        return None
    shape = tf.TensorShape(labels.shape)[1:]
    return tf.zeros([1, *shape], labels.dtype) if shape.is_fully_defined() else None
