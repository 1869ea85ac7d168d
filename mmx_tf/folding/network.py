"""The class of folded networks: functional tf_keras models of integer layers.

>>> folded.predict(images * np.nan, verbose=0)
Traceback (most recent call last):
    ...
ValueError: ...
"""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers import classes  # noqa: F401 (a file of this network names them)
from mmx_tf.layers.integer.layers import NOT_FINITE
from mmx_tf.network.ours import check_saved_as


@keras.saving.register_keras_serializable(package="mmx_tf")
class FoldedNetwork(keras.Model):
    """A functional network of integer layers, from float images to dequantized outputs.

    Attributes:
      output_names: of several outputs, those of the float network; of one the name of its last layer.
      weight_storage: the storage that it was folded for; None in files of versions that did not keep it.
    """

    weight_storage: str | None = None

    @classmethod
    def of(
        cls, inputs, outputs, *, name: str, output_names: list[str], weight_storage: str
    ) -> "FoldedNetwork":
        """A network from symbolic inputs and outputs; of several outputs it keeps the names."""
        # Keras saves the graph only of classes that keep keras.Model's own constructor.
        network = cls(inputs, outputs, name=name)
        network.weight_storage = weight_storage
        if len(output_names) > 1:
            network.output_names = list(output_names)
        return network

    def get_config(self):
        """The functional config, the names of several outputs, and the storage of the weights."""
        several = {"output_names": list(self.output_names)} if len(self.outputs) > 1 else {}
        return {**super().get_config(), **several, "weight_storage": self.weight_storage}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The network of a config that `get_config` made."""
        config = dict(config)
        names, storage = config.pop("output_names", None), config.pop("weight_storage", None)
        network = super().from_config(config, custom_objects)
        network.weight_storage = storage
        if names:
            network.output_names = list(names)
        return network

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
