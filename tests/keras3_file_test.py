"""Files that Keras 3 wrote: loaded as tf_keras networks, and nothing of theirs is run."""

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tf_keras
from keras3_networks import SHAPE, L, functional, small_cnn, with_random_weights

import mmx_tf
from mmx_tf.network.canonical import UnsupportedLayerError

ROOT = Path(__file__).parents[1]


def nested():
    base = functional(lambda x: L.Activation("hard_silu")(L.Conv2D(4, 3, padding="same")(x)))
    base.compile("sgd", loss="mse")
    return functional(lambda x: L.Dense(3)(keras.ops.mean(base(x) * 2.0, axis=(1, 2))))


@pytest.mark.parametrize("build", [small_cnn, nested])
def test_a_file_gives_the_network(tmp_path, build):
    network = with_random_weights(build())
    network.compile("adam", loss=lambda y, p: p)  # a loss of one's own is no obstacle
    network.save(tmp_path / "float.keras")
    loaded = mmx_tf.load_model(tmp_path / "float.keras")
    assert isinstance(loaded, tf_keras.Model)
    for one, other in zip(network.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(other, one)
    images = np.random.default_rng(1).uniform(-2, 2, (4, *SHAPE)).astype("float32")
    np.testing.assert_allclose(loaded(images), network(images), rtol=1e-5, atol=1e-5)


OTHER_BACKEND = """
import numpy as np
import keras
from keras3_networks import small_cnn, with_random_weights
network = with_random_weights(small_cnn())
network.save("float.keras")
np.savez("expected.npz", images=IMAGES, outputs=np.asarray(network(IMAGES)))
assert keras.backend.backend() == BACKEND
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_files_of_other_backends_load_the_same(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: no file of that backend is written")
    given = f"BACKEND = {backend!r}\nimport numpy\nIMAGES = numpy.ones((2, *{SHAPE}), 'float32') / 3\n"
    subprocess.run(
        [sys.executable, "-c", given + OTHER_BACKEND],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        check=True,
    )
    found = np.load(tmp_path / "expected.npz")
    loaded = mmx_tf.load_model(tmp_path / "float.keras")
    np.testing.assert_allclose(loaded(found["images"]), found["outputs"], rtol=1e-4, atol=1e-5)


@keras.saving.register_keras_serializable("mine")
class Mine(L.Layer):
    """Registered, so Keras itself would build it even in safe mode."""

    built_from_a_file = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        Mine.built_from_a_file = True

    def call(self, x):
        return x


def foreign_lambda():
    return L.Lambda(lambda t: open("executed", "w") and t, name="bad", output_shape=SHAPE)


def own_activation(t):
    return t


@pytest.mark.parametrize(
    ("layer", "parts"),
    [
        (foreign_lambda, ["'bad' (Lambda", "never run from a file"]),
        (lambda: Mine(name="bad"), ["'bad' (Mine", "Layers that can: Conv2D"]),
        (lambda: L.Conv2D(2, 1, name="bad", activation=lambda t: t), ["'bad' (__lambda__", "never run"]),
        (lambda: L.Conv2D(2, 1, name="bad", activation=own_activation), ["'bad' (function", "Layers that"]),
        (lambda: L.UnitNormalization(name="bad"), ["'bad' (UnitNormalization", "Use BatchNormalization"]),
    ],
)
def test_a_file_with_foreign_code_is_refused_before_anything_is_built(tmp_path, monkeypatch, layer, parts):
    monkeypatch.chdir(tmp_path)
    functional(layer()).save("bad.keras")
    # Building the network ran both here.
    Path("executed").unlink(missing_ok=True)
    Mine.built_from_a_file = False
    with pytest.raises(UnsupportedLayerError) as error:
        mmx_tf.load_model("bad.keras")
    assert all(part in str(error.value) for part in parts)
    assert not Mine.built_from_a_file and not os.path.exists("executed")


def edited(path, edit):
    """The file with `edit` done to the config of its first layer with weights."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    edit(next(layer for layer in config["config"]["layers"] if layer["class_name"] == "Conv2D"))
    members["config.json"] = json.dumps(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


EDITS = {
    "class of another module": lambda layer: layer.update(module="keras.src.saving.saving_lib"),
    "registered name": lambda layer: layer.update(registered_name="mine>Mine"),
    "downloading function": lambda layer: layer["config"].update(
        activation={"module": "keras.utils", "class_name": "function", "config": "get_file"}
    ),
    "lambda as initializer": lambda layer: layer["config"].update(
        kernel_initializer={
            "module": "keras.initializers",
            "class_name": "__lambda__",
            "config": {"value": ["", None, None]},
        }
    ),
    "class that is no name": lambda layer: layer.update(class_name=["Conv2D"]),
}


@pytest.mark.parametrize("case", EDITS)
def test_an_edited_config_is_refused(tmp_path, case):
    path = tmp_path / "edited.keras"
    small_cnn().save(path)
    edited(path, EDITS[case])
    with pytest.raises(UnsupportedLayerError, match="stem"):
        mmx_tf.load_model(path)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "damaged.keras"
    small_cnn().save(path)
    edited(path, lambda layer: layer["config"].update(filters=5))
    with pytest.raises(ValueError, match="is not a whole .keras file of a Keras 3 model"):
        mmx_tf.load_model(path)


SCRIPT = """
import sys
import mmx_tf
try:
    mmx_tf.load_model(sys.argv[1])
except ValueError as error:
    print(error)
"""


def test_a_backend_that_is_not_installed_is_named_with_the_way_out(tmp_path):
    path = tmp_path / "float.keras"
    small_cnn().save(path)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, path], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )  # fmt: skip
    assert "No module named 'jax'" in done.stdout and "KERAS_BACKEND=tensorflow" in done.stdout
