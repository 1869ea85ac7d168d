"""What every layer of ours must do: be rebuilt from its config, train with fit, save and load.

A test module defines a fixture `model` (see `one_layer_model`) and subclasses:

    class TestContract(LayerContract):
        pass
"""

import json

import numpy as np
import tf_keras as keras

import mmx_tf
from mmx_tf.layers.quantizers.activation import StepSizeFloor

BATCH = 8


def one_layer_model(layer, input_shape) -> keras.Model:
    """inputs -> `layer`, the model's layers[1] -> dense head of two outputs."""
    inputs = keras.Input(input_shape)
    head = keras.layers.Dense(2, name="head", kernel_initializer=keras.initializers.GlorotUniform(seed=1))
    return keras.Model(inputs, head(keras.layers.Flatten()(layer(inputs))))


def examples(model, seed=0):
    """One batch of normal images and targets that are not zero anywhere."""
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 2, (BATCH, *model.input_shape[1:])).astype(np.float32)
    return images, np.tile(np.float32([1.0, -2.0]), (BATCH, 1))


class LayerContract:
    """Tests that every layer passes. `untrained`: trainable variables that plain training leaves alone."""

    untrained: tuple[str, ...] = ()

    def test_config_rebuilds_the_layer(self, model):
        layer = model.layers[1]
        saved = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
        twin = keras.saving.deserialize_keras_object(
            saved, custom_objects={type(layer).__name__: type(layer)}
        )
        assert type(twin) is type(layer)
        assert twin.get_config() == layer.get_config()
        one_layer_model(twin, model.input_shape[1:])
        assert [w.shape for w in twin.weights] == [w.shape for w in layer.weights]

    def test_trains_with_fit(self, model):
        layer = model.layers[1]
        images, targets = examples(model)
        model(images)  # sets the step sizes that are set from data
        before = {v.name: v.numpy() for v in layer.trainable_variables}
        model.compile(keras.optimizers.Adam(1e-4), "mse")
        losses = model.fit(images, targets, epochs=5, verbose=0).history["loss"]
        assert losses[-1] < losses[0], losses
        expected = {name for name in before if not any(part in name for part in self.untrained)}
        moved = {v.name for v in layer.trainable_variables if np.any(v.numpy() != before[v.name])}
        assert moved == expected
        assert any("step_size" in name for name in moved)

    def test_keeps_step_sizes_positive(self, model):
        steps = [v for v in model.layers[1].trainable_variables if "step_size" in v.name]
        assert len(steps) == 1
        assert isinstance(steps[0].constraint, StepSizeFloor)

    def test_saves_loads_and_trains_on_alike(self, model, tmp_path):
        images, targets = examples(model)
        model(images)
        model.save(tmp_path / "model.keras")
        loaded = mmx_tf.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded(images), model(images))
        # Other data: a step size that forgot it had been set would be set again here.
        images, targets = examples(model, seed=1)
        for network in (model, loaded):
            network.compile(keras.optimizers.SGD(0.01), "mse", run_eagerly=True)
            network.train_on_batch(3 * images, targets)
        assert len(loaded.layers[1].weights) == len(model.layers[1].weights)
        for got, want in zip(loaded.layers[1].weights, model.layers[1].weights, strict=True):
            np.testing.assert_array_equal(got, want, err_msg=want.name)
