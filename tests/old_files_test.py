"""Files of earlier versions of Keras 2: those of today's tf_keras, rewritten as the earlier version wrote."""

import io
import json
import re
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import randomize_statistics

import mmx_tf
from mmx_tf.files import old_names

L = keras.layers
SHAPE = (8, 8, 3)

pytestmark = [
    pytest.mark.broad,
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]


def network():
    """Several layers of a class, with and without weights, operators, and a nested model."""
    inside = keras.Sequential([L.InputLayer((6, 6, 4)), L.Conv2D(4, 1, activation="relu"), L.Conv2D(4, 1)])
    image = keras.Input(SHAPE)
    x = L.BatchNormalization()(L.Conv2D(4, 3)(image))
    x = tf.nn.relu6(inside(L.ReLU(6)(x)) + 3.0) / 6.0
    x = L.Add()([L.Conv2D(4, 1)(x), L.DepthwiseConv2D(3, padding="same")(x)])
    x = L.ReLU()(L.BatchNormalization()(x))
    model = keras.Model(image, L.Dense(2)(L.Dense(5)(L.GlobalAveragePooling2D()(x))))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1, weight.shape) for weight in model.get_weights()])
    randomize_statistics(model, seed=1)
    return model


IMAGES = np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)


def rewritten(path, *, config=None, weights=None):
    """Rewrites a .keras file with functions of its config's text and of its weights."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if config:
        members["config.json"] = config(members["config.json"].decode())
    if weights:
        members["model.weights.h5"] = weights(members["model.weights.h5"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def of_2_15(config):
    return config.replace('"tf_keras.src.', '"keras.src.')


def of_2_12(config):
    """Keras 2.12 had modules without `src`, named them for the network alone, and wrote numbers as arrays."""
    found = json.loads(config.replace('"tf_keras.src.', '"keras.'))

    def plain(value):
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if k not in ("module", "registered_name")}
        return [plain(part) for part in value] if isinstance(value, list) else value

    found["config"] = plain(found["config"])
    for layer in found["config"]["layers"]:
        if layer["class_name"] == "ReLU":
            number = {"value": layer["config"]["negative_slope"], "dtype": "float32"}
            layer["config"]["negative_slope"] = {"class_name": "__numpy__", "config": number}
    return json.dumps(found)


def in_order_of_checkpoints(content, separator="/"):
    """The weights as Keras 2.12 and 2.13 wrote them: a layer that has weights is counted a second time."""
    target = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as source, h5py.File(target, "w") as file:

        def write(group, path):
            if "vars" in group:
                source.copy(group["vars"], file.require_group(separator.join(path)) if path else file, "vars")
            counts = {}
            for name in sorted(set(group) - {"vars"}, key=lambda name: (len(name), name)):
                if group.name.rpartition("/")[2] == "layers":
                    kind = re.sub(r"_\d+$", "", name)
                    number = counts.get(kind, 0)
                    counts[kind] = number + (2 if has_numbers(group[name]) else 1)
                    write(group[name], [*path, f"{kind}_{number}" if number else kind])
                else:
                    old = "_layer_checkpoint_dependencies" if name == "layers" else name
                    write(group[name], [*path, old])

        write(source, [])
    return target.getvalue()


def has_numbers(group):
    return bool(group.visititems(lambda name, member: isinstance(member, h5py.Dataset) or None))


def with_backslashes(content):
    """The weights as Windows wrote them: a path is the name of one group."""
    target = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as source, h5py.File(target, "w") as file:
        paths = []
        source.visititems(lambda name, member: paths.append(name) if name.endswith("vars") else None)
        for path in paths:
            place = "\\".join(path.split("/")[:-1])
            source.copy(source[path], file.create_group(place) if place else file, name="vars")
    return target.getvalue()


def of_2_13_on_windows(content):
    return in_order_of_checkpoints(content, separator="\\")


VERSIONS = {
    "2.12": {"config": of_2_12, "weights": in_order_of_checkpoints},
    "2.13": {"config": of_2_15, "weights": in_order_of_checkpoints},
    "2.13 on Windows": {"config": of_2_15, "weights": of_2_13_on_windows},
    "2.15": {"config": of_2_15},
    "2.15 on Windows": {"config": of_2_15, "weights": with_backslashes},
}


@pytest.mark.parametrize("version", VERSIONS)
def test_keras_files(version, tmp_path):
    model, path = network(), tmp_path / "old.keras"
    model.save(path)
    rewritten(path, **VERSIONS[version])
    if "weights" in VERSIONS[version]:
        # tf_keras finds none of them, or takes them for those of other layers.
        with pytest.raises((ValueError, TypeError)):
            keras.models.load_model(path, compile=False)
    before = path.read_bytes()
    loaded = mmx_tf.load_model(path)
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))
    assert path.read_bytes() == before
    mmx_tf.augment(path, target_average_bits=5)


def test_the_paths_of_weights_are_those_of_the_files(tmp_path):
    """The rewriting above gives the names that are in files of Keras 2.13."""
    network().save(tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        content = archive.read("model.weights.h5")
    with h5py.File(io.BytesIO(in_order_of_checkpoints(content))) as old:
        names = set(old["_layer_checkpoint_dependencies"])
    assert {"conv2d", "conv2d_2", "batch_normalization", "batch_normalization_2", "dense", "dense_2"} <= names
    assert {"re_lu", "re_lu_1", "sequential"} <= names and "conv2d_1" not in names


def test_names_of_today_are_left_alone():
    config = {"module": "keras.layers", "class_name": "Conv2D", "config": {"module": "mine", "x": [1, None]}}
    assert old_names.renamed(config) == config
    named = old_names.renamed({"class_name": "TFOpLambda", "module": "keras.layers.core.tf_op_layer"})
    assert named["module"] == "tf_keras.src.layers.core.tf_op_layer"


def of_standalone_keras(config):
    """As Keras 2.2 described the network: its class was Model, and later settings were missing."""
    found = json.loads(config)
    found["class_name"] = "Model"

    def older(value):
        if isinstance(value, dict):
            later = ("groups", "ragged", "optional", "module", "registered_name", "keepdims")
            return {k: older(v) for k, v in value.items() if k not in later}
        return [older(part) for part in value] if isinstance(value, list) else value

    for layer in older(found["config"]["layers"]):
        layer["config"].pop("dtype", None)
    return json.dumps(older(found))


def of_tensorflow_1_13(config):
    return config.replace('"BatchNormalization"', '"BatchNormalizationV1"')


@pytest.mark.parametrize(
    ("rewrite", "version"),
    [(of_standalone_keras, "2.2.4"), (of_tensorflow_1_13, "2.2.4-tf"), (str, "2.6.0")],
    ids=["Keras 2.2", "TensorFlow 1.13", "TensorFlow 2.6"],
)
def test_h5_files(rewrite, version, tmp_path):
    model, path = network(), tmp_path / "old.h5"
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = file.attrs["model_config"]
        # h5py gave bytes for what older versions wrote.
        file.attrs["model_config"] = np.bytes_(rewrite(config).encode())
        file.attrs["keras_version"] = np.bytes_(version.encode())
    np.testing.assert_array_equal(mmx_tf.load_model(path)(IMAGES), model(IMAGES))
    mmx_tf.augment(path, target_average_bits=5)
