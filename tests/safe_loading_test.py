"""Files of a stranger: nothing that they bring is run.

Each hostile file would leave a mark, a file of its own, if its code ran.
"""

import json
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mmx_tf import load_model
from mmx_tf.files import keras2_file, safe_config
from mmx_tf.metamix.selection import BitSelection
from mmx_tf.workdir.checkpoints import Checkpoints

L = keras.layers


def with_lambda(mark):
    """A network whose Lambda layer writes a file when it is called."""
    code = eval(f"lambda x: (open({str(mark)!r}, 'w').close(), x)[1]")
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, L.Dense(2)(L.Flatten()(L.Lambda(code, name="evil")(inputs))))
    mark.unlink()  # it has just been called
    return model


def edited(path, source, change):
    """A copy of a .keras file with its config changed."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config["config"]["layers"])
                content = json.dumps(config)
            copy.writestr(name, content)
    return path


def layer_named(layers, name):
    return next(layer for layer in layers if layer["config"]["name"] == name)


def test_a_lambda_with_bytecode_is_not_run(tmp_path):
    mark = tmp_path / "mark"
    with_lambda(mark).save(tmp_path / "evil.keras")
    with pytest.raises(ValueError, match=r"Lambda layer \(layer 'evil'\), whose Python code is never run"):
        load_model(tmp_path / "evil.keras")
    assert not mark.exists()


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_an_h5_file_with_a_lambda_is_not_run_under_any_name(tmp_path, suffix):
    mark = tmp_path / "mark"
    with_lambda(mark).save(tmp_path / "evil.h5")
    # Keras itself, given the name of a .keras file, runs the bytecode of an HDF5 file.
    path = tmp_path / f"named.{suffix}"
    shutil.copy(tmp_path / "evil.h5", path)
    keras.models.load_model(path, safe_mode=True, compile=False)
    assert mark.exists(), "the file is harmless, so this test shows nothing"
    mark.unlink()
    with pytest.raises(ValueError, match=r"Lambda layer \(layer 'evil'\), whose Python code is never run"):
        load_model(path)
    assert not mark.exists()


FUNCTION = {"class_name": "function", "module": "os", "config": "system", "registered_name": "system"}


def as_class(module, kind, config=None, registered=None):
    return {"module": module, "class_name": kind, "config": config or {}, "registered_name": registered}


HOSTILE_OBJECTS = {
    "function": FUNCTION,
    "builtin": {**FUNCTION, "module": "builtins", "config": "eval", "registered_name": "eval"},
    "class": as_class("subprocess", "Popen", {"args": ["touch", "mark"]}),
    "download": as_class("keras.utils", "get_file", {"origin": "file:///etc/passwd"}),
    "attribute": as_class("keras.layers", "Lambda.from_config"),
    "stranger's module": as_class("evil_module", "Layer", {"name": "x"}),
    "ours by name": as_class("evil_module", "Layer", {"name": "x"}, "mmx_tf>Nothing"),
    "lambda": {"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}},
}


@pytest.mark.parametrize("case", HOSTILE_OBJECTS)
def test_an_object_that_is_not_on_the_lists_is_not_looked_for(tmp_path, monkeypatch, good, case):
    # A module that Keras would import, if it were asked to.
    code = f"open({str(tmp_path / 'mark')!r}, 'w').close()\nLayer = object\n"
    (tmp_path / "evil_module.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def change(layers):
        layer_named(layers, "project")["config"]["activation"] = HOSTILE_OBJECTS[case]

    path = edited(tmp_path / "evil.keras", good, change)
    with pytest.raises(ValueError, match="never run from a file|own classes are not loaded"):
        load_model(path)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("function", ["io.write_file", "raw_ops.WriteFile", "py_function", "io.read_file"])
def test_an_operator_that_does_more_than_compute_is_not_called(tmp_path, good, function):
    def change(layers):
        layer = layer_named(layers, "add")
        layer.update(as_class("tf_keras.src.layers.core.tf_op_layer", "TFOpLambda", registered="TFOpLambda"))
        layer["config"] = {"name": "add", "trainable": True, "dtype": "float32", "function": function}

    path = edited(tmp_path / "evil.keras", good, change)
    with pytest.raises(ValueError, match=f"layer 'add' calls TensorFlow's operator '{function}'"):
        load_model(path)


def test_a_pickle_beside_the_weights_is_refused(tmp_path, good):
    path = tmp_path / "evil.keras"
    shutil.copy(good, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model.weights.npz", b"\x80\x04.")
    with pytest.raises(ValueError, match="holds 'model.weights.npz'"):
        load_model(path)


@pytest.mark.slow
def test_a_flipped_bit_anywhere_is_no_traceback(tmp_path, good):
    """What zipfile raises depends on which field of its headers is hit."""
    content, path = good.read_bytes(), tmp_path / "damaged.keras"
    names = [b"config.json", b"PK\x01\x02", b"PK\x05\x06"]
    # All headers of the config: its own, the directory's, the end's.
    near = {place for name in names for place in range(content.find(name) - 40, content.find(name) + 60)}
    refused = 0
    for place in sorted(p for p in near if 0 <= p < len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                keras2_file.check(str(path))
            except safe_config.UnsafeFileError:
                refused += 1
    assert refused > 100


def test_honest_networks_with_operators_are_loaded(tmp_path):
    inputs = keras.Input((4, 4, 1))
    x = L.Conv2D(3, 1, activation=tf.nn.relu6, kernel_regularizer="l2", kernel_constraint="max_norm")(inputs)
    nested = keras.Sequential([L.Conv2D(3, 1)])
    nested.compile("adam", "mse")
    x = tf.concat([tf.nn.relu6(nested(x) + 3.0) / 6.0, x * 2.0, L.ReLU(2.0)(x)[:, :, :, :2]], axis=-1)
    model = keras.Model(inputs, L.Dense(2)(tf.reduce_mean(tf.nn.silu(x), [1, 2])))
    model.compile("sgd", keras.losses.MeanSquaredError())
    model.save(tmp_path / "honest.keras")
    images = np.random.default_rng(0).normal(size=(3, 4, 4, 1)).astype(np.float32)
    np.testing.assert_array_equal(load_model(tmp_path / "honest.keras")(images), model(images))


def test_a_bit_selection_is_data(tmp_path):
    (tmp_path / "bits.json").write_text('{"__reduce__": ["os.system", ["touch mark"]], "schema": 1}')
    with pytest.raises(ValueError):
        BitSelection.load(tmp_path / "bits.json")


def test_a_checkpoint_cannot_name_files_outside_itself(tmp_path):
    variable = tf.Variable(1.0)
    checkpoints = Checkpoints(tmp_path / "phase", {"v": variable})
    assert checkpoints.save(1, {})
    sums = tmp_path / "phase" / "ckpt-1" / "sha256.json"
    sums.write_text(json.dumps({**json.loads(sums.read_text()), "../../secret": "0"}))
    assert checkpoints.restore() is None
