"""The class of folded networks: functional tf_keras models of integer layers.

>>> FoldedNetwork(inputs, outputs, name="folded").predict(images)      # ValueError: images hold NaN ...
"""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers import classes  # noqa: F401 (a file of this network names them)
from mmx_tf.layers.integer.layers import NOT_FINITE
from mmx_tf.network.loading import check_saved_as


@keras.saving.register_keras_serializable(package="mmx_tf")
class FoldedNetwork(keras.Model):
    """A functional network of integer layers, from float images to dequantized outputs."""

    def fit(self, *args, **kwargs):
        """Refuses (ValueError): integers are not trained."""
        raise ValueError(
            f"{self.name}.fit: a folded network computes with integers and has nothing to train. Train the "
            "fixed network, or mmx_tf.fold_for_training(fixed), and fold it again."
        )

    def predict(self, *args, **kwargs):
        """keras.Model.predict. Raises ValueError for images that hold NaN or infinite values."""
        return _told(super().predict, *args, **kwargs)

    def save(self, filepath, *args, **kwargs):
        """keras.Model.save of a .keras file; ValueError for another format."""
        check_saved_as(self.name, filepath, kwargs.get("save_format", "keras"))
        super().save(filepath, *args, **kwargs)

    def evaluate(self, *args, **kwargs):
        """keras.Model.evaluate. Raises ValueError for images that hold NaN or infinite values."""
        return _told(super().evaluate, *args, **kwargs)


def _told(call, *args, **kwargs):
    """What a call of Keras's gives; its error of many lines about such images is told in one."""
    try:
        return call(*args, **kwargs)
    except tf.errors.InvalidArgumentError as error:
        if NOT_FINITE not in str(error):
            raise
        raise ValueError(f"{NOT_FINITE}.") from None
