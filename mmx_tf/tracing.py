"""Making everything a training step needs before it is traced.

Keras makes metrics and optimizer slots while it traces a training step, and TensorFlow then traces the step
once more. A search step takes long to trace; made beforehand, the variables spare the second time.
"""

import tensorflow as tf
import tf_keras as keras


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


def _labels_spec(x, y):
    if isinstance(x, tf.data.Dataset):
        spec = x.element_spec
        y = spec[1] if isinstance(spec, tuple) and len(spec) > 1 else None
    labels = y if hasattr(y, "shape") and hasattr(y, "dtype") else None
    return (
        labels if labels is not None and labels.shape is not None and None not in labels.shape[1:] else None
    )
