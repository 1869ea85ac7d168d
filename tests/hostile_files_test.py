"""HDF5 files, SavedModels and archives of a stranger: nothing in them is run, and no other file is read.

Each would leave a mark, a file of its own, if its code ran. `safe_loading_test` has those of tf_keras's
.keras files, `keras3_file_test` those of Keras 3's.
"""

import io
import json
import pathlib
import zipfile

import h5py
import keras as keras_3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import small_network
from tf_keras.protobuf import saved_metadata_pb2

from mmx_tf import load_model

L = keras.layers
SHAPE = (4, 4, 1)

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
    pytest.mark.filterwarnings("ignore:Creating a Lambda layer|lambda"),
]


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """The path that hostile code would write to; modules and relative paths of theirs would be found."""
    mark = tmp_path / "mark"
    (tmp_path / "evil_module.py").write_text(f"open({str(mark)!r}, 'w').close()\nLayer = object\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return mark


def layer_of(config, name):
    return next(layer for layer in config["config"]["layers"] if layer["config"]["name"] == name)


def edited(path, change):
    """An .h5 file of the small network whose config has been changed."""
    small_network().save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


def activation(value):
    return lambda config: layer_of(config, "project")["config"].update(activation=value)


def layer(kind, *, module=None, **config):
    def change(found):
        found = layer_of(found, "add")
        found.update(class_name=kind, config={"name": "add", "trainable": True, "dtype": "float32", **config})
        found.update({"module": module} if module else {})

    return change


# As Keras 2.2 wrote operators into configs.
NODE = {"name": "write", "op": "WriteFile", "input": ["filename", "contents"]}
CONFIGS = {
    "class of another module": layer("Popen", module="subprocess", args=["touch", "mark"]),
    "function of another module": layer("system", module="os", command="touch mark"),
    "class of a stranger's module": layer("Layer", module="evil_module"),
    "class that somebody registers": layer("Custom>Layer"),
    "attribute of a class": layer("Lambda.from_config"),
    "activation of another module": activation(
        {"class_name": "function", "module": "os", "config": "system", "registered_name": "system"}
    ),
    "class as activation": activation(
        {"class_name": "Popen", "module": "subprocess", "config": {"args": []}}
    ),
    "lambda as activation": activation(
        {"class_name": "__lambda__", "config": {"value": ["4wA=", None, None]}}
    ),
    "operator that writes": layer("TFOpLambda", function="io.write_file"),
    "slicing that writes": layer("SlicingOpLambda", function="io.write_file"),
    "operator that runs Python": layer("TFOpLambda", function="py_function"),
    "operator that does not exist": layer("TFOpLambda", function=["io.write_file"]),
    "operator by its NodeDef": layer("TensorFlowOpLayer", node_def=NODE, constants={}),
    "operator by its NodeDef, with its module": layer(
        "TensorFlowOpLayer", module="tf_keras.src.engine.base_layer", node_def=NODE, constants={}
    ),
    "method of a tensor": layer("InstanceMethod", attr_name="numpy"),
    "type of a tensor": activation(
        {"class_name": "TypeSpec", "type_spec": "tf.RaggedTensorSpec", "serialized": []}
    ),
    "vocabulary from a file": layer("StringLookup", vocabulary="evil_module.py"),
    "network from a folder": layer("TFSMLayer", module="keras.layers", filepath="folder"),
    "class that is no name": layer(["Conv2D"]),
    "network of a stranger's class": lambda config: config.update(class_name="Net", module="evil_module"),
    "network that is a layer": lambda config: config.update(class_name="Dense"),
    "network that is a function": lambda config: config.update(class_name="system", module="os"),
    "no layers": lambda config: config.update(config=None),
    "layers that are a number": lambda config: config["config"].update(layers=7),
    "passive object": activation(
        {"class_name": "Lambda", "config": {"function": "x"}, "__passive_serialization__": True}
    ),
}

MEANINGLESS = ("no layers", "layers that are a number")


@pytest.mark.parametrize("case", CONFIGS)
def test_what_the_config_of_an_h5_file_names_is_not_built(case, mark, tmp_path):
    path = edited(tmp_path / "evil.h5", CONFIGS[case])
    with pytest.raises(ValueError) as error:
        load_model(path)
    refusals = [f"never {done} a file" for done in ("run from", "built from")]
    refusals += ["whose Python code", "A file's own classes are not loaded"]
    if case in MEANINGLESS:
        refusals = ["no config of a network", "cannot be built by tf_keras"]
    assert any(part in str(error.value) for part in refusals)
    assert not mark.exists()


@pytest.mark.parametrize(
    "case", ["class of a stranger's module", "slicing that writes", "operator by its NodeDef"]
)
def test_nor_what_that_of_a_saved_model_names(case, mark, tmp_path):
    small_network().save(tmp_path / "evil", save_format="tf")
    path = tmp_path / "evil" / "keras_metadata.pb"
    notes = saved_metadata_pb2.SavedMetadata.FromString(path.read_bytes())
    config = json.loads(notes.nodes[0].metadata)
    CONFIGS[case](config)
    notes.nodes[0].metadata = json.dumps(config)
    path.write_bytes(notes.SerializeToString())
    with pytest.raises(ValueError, match="never run from a file|own classes are not loaded"):
        load_model(tmp_path / "evil")
    assert not mark.exists()


def test_how_a_network_was_compiled_is_not_read(mark, tmp_path):
    model = small_network()
    model.compile("sgd", "mse")
    model.save(tmp_path / "net.h5")
    loss = {"class_name": "Layer", "module": "evil_module", "config": {}}
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        settings = json.loads(file.attrs["training_config"])
        file.attrs["training_config"] = json.dumps({**settings, "loss": loss, "optimizer_config": loss})
    assert load_model(tmp_path / "net.h5").count_params() == model.count_params()
    assert not mark.exists()


def with_lambda(mark, library):
    code = eval(f"lambda x: (open({str(mark)!r}, 'w').close(), x)[1]")
    image = library.Input(SHAPE)
    own = library.layers.Lambda(code, name="evil", output_shape=SHAPE)
    model = library.Model(image, library.layers.Dense(2)(library.layers.Flatten()(own(image))))
    mark.unlink(missing_ok=True)  # it may just have been called
    return model


@pytest.mark.parametrize("way", ["h5", "tf", "h5 of Keras 3"])
def test_lambda_code_is_not_run(mark, tmp_path, way):
    model = with_lambda(mark, library=keras_3 if way == "h5 of Keras 3" else keras)
    path = tmp_path / ("evil" if way == "tf" else "evil.h5")
    model.save(path, **({"save_format": "tf"} if way == "tf" else {}))
    mark.unlink(missing_ok=True)
    if way != "h5 of Keras 3":
        keras.models.load_model(path, compile=False)(np.zeros((1, *SHAPE), np.float32))
        assert mark.exists(), "the file is harmless, so this test shows nothing"
        mark.unlink()
    with pytest.raises(ValueError, match="whose Python code is never run|its Python code is never run"):
        load_model(path)
    assert not mark.exists()


KERAS_3_CONFIGS = {
    "class of a stranger's module": {"class_name": "Layer", "module": "evil_module", "registered_name": None},
    "function": {"class_name": "function", "module": "os", "config": "system", "registered_name": "system"},
    "class that somebody registers": {"class_name": "Custom>Layer"},
    "unknown operator": {"class_name": "WriteFile", "config": {"name": "add"}},
    "vocabulary from a file": {"class_name": "StringLookup", "config": {"vocabulary": "evil_module.py"}},
    "network from a folder": {"class_name": "TFSMLayer", "config": {"filepath": "folder"}},
}


@pytest.mark.parametrize("case", KERAS_3_CONFIGS)
def test_what_the_config_of_an_h5_file_of_keras_3_names_is_not_built(case, mark, tmp_path):
    keras_3.Sequential([keras_3.Input(SHAPE), keras_3.layers.Conv2D(2, 1, name="first")]).save(
        tmp_path / "evil.h5"
    )
    with h5py.File(tmp_path / "evil.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        layer_of(config, "first").update(KERAS_3_CONFIGS[case])
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(ValueError, match="cannot be imported: it is not one of the objects"):
        load_model(tmp_path / "evil.h5")
    assert not mark.exists()


def elsewhere(folder):
    """Another file on the user's disk, with numbers as a kernel has them."""
    with h5py.File(folder / "elsewhere.h5", "w") as file:
        file["secret"] = np.full((1, 1, 6, 8), 7, np.float32)
    (folder / "elsewhere.bin").write_bytes(np.full((1, 1, 6, 8), 7, np.float32).tobytes())


def external_link(group, name, folder):
    group[name] = h5py.ExternalLink(str(folder / "elsewhere.h5"), "/secret")


def virtual(group, name, folder):
    layout = h5py.VirtualLayout((1, 1, 6, 8), np.float32)
    layout[:] = h5py.VirtualSource(str(folder / "elsewhere.h5"), "secret", (1, 1, 6, 8))
    group.create_virtual_dataset(name, layout)


def external_storage(group, name, folder):
    storage = [(str(folder / "elsewhere.bin"), 0, 192)]
    group.create_dataset(name, (1, 1, 6, 8), np.float32, external=storage)


def soft_link(group, name, folder):
    group["outside"] = h5py.ExternalLink(str(folder / "elsewhere.h5"), "/")
    group[name] = h5py.SoftLink(f"{group.name}/outside/secret")


WAYS_OUT = {case.__name__: case for case in (external_link, virtual, external_storage, soft_link)}
REFUSED = "may lead to another file; it is not followed|in other files; they are not read"


@pytest.mark.parametrize("case", WAYS_OUT)
def test_numbers_of_other_files_are_not_read(case, tmp_path):
    elsewhere(tmp_path)
    path = tmp_path / "evil.h5"
    small_network().save(path)
    with h5py.File(path, "r+") as file:
        group = file["model_weights/expand/expand"]
        del group["kernel:0"]
        WAYS_OUT[case](group, "kernel:0", tmp_path)
    with h5py.File(path) as file:
        assert np.all(file["model_weights/expand/expand/kernel:0"][:] == 7), "the file is harmless"
    with pytest.raises(ValueError, match=REFUSED):
        load_model(path)


@pytest.mark.parametrize("case", WAYS_OUT)
@pytest.mark.parametrize("library", [keras, keras_3], ids=["tf_keras", "Keras 3"])
def test_nor_by_the_weights_in_an_archive(case, library, tmp_path):
    elsewhere(tmp_path)
    path = tmp_path / "evil.keras"
    library.Sequential([library.Input((4, 4, 6)), library.layers.Conv2D(8, 1)]).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        group = file["layers/conv2d/vars"]
        del group["0"]
        WAYS_OUT[case](group, "0", tmp_path)
    members["model.weights.h5"] = weights.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=REFUSED):
        load_model(path)


def test_a_kernel_of_a_terabyte_is_not_allocated(tmp_path):
    small_network().save(tmp_path / "evil.h5")
    with h5py.File(tmp_path / "evil.h5", "r+") as file:
        group = file["model_weights/expand/expand"]
        del group["kernel:0"]
        group.create_dataset("kernel:0", (10**9, 256), np.float32, chunks=(1024, 256))
    with pytest.raises(ValueError, match="has 1,024,000,000,000 bytes, and holds 0 of it"):
        load_model(tmp_path / "evil.h5")


def test_compressed_weights_are_no_lie(tmp_path):
    model = small_network()
    model.save(tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        group = file["model_weights/expand/expand"]
        kernel = group["kernel:0"][:]
        del group["kernel:0"]
        group.create_dataset("kernel:0", data=kernel, compression="gzip")
    loaded = load_model(tmp_path / "net.h5").get_layer("expand").kernel.numpy()
    np.testing.assert_array_equal(loaded, kernel)


@pytest.mark.parametrize("member", ["model.weights.npz", "assets/vocabulary.txt", "../outside", "layers.npy"])
def test_more_than_a_network_in_an_archive_of_keras_3_is_refused(tmp_path, member):
    path = tmp_path / "evil.keras"
    keras_3.Sequential([keras_3.Input(SHAPE), keras_3.layers.Conv2D(2, 1)]).save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, b"\x80\x04.")
    with pytest.raises(ValueError, match=f"holds '{member}', which is no part"):
        load_model(path)


def writing(mark):
    """A class that has Keras's name and does more when its network is called: it writes a file."""

    class Dense(L.Dense):
        def call(self, inputs):
            tf.io.write_file(str(mark), "run")
            return super().call(inputs)

    return Dense


def running_python(mark):
    class Dense(L.Dense):
        def call(self, inputs):
            with tf.control_dependencies(
                [tf.py_function(lambda: pathlib.Path(mark).write_text("run") and 0, [], tf.int32)]
            ):
                return super().call(inputs)

    return Dense


@pytest.mark.parametrize("hostile", [writing, running_python])
def test_the_functions_of_a_saved_model_are_not_run(hostile, mark, tmp_path):
    image = keras.Input(SHAPE)
    model = keras.Model(image, hostile(mark)(3, name="logits")(L.Flatten()(L.Conv2D(2, 3)(image))))
    images = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    expected = model(images).numpy()
    model.save(tmp_path / "evil", save_format="tf")
    mark.unlink()
    tf.saved_model.load(tmp_path / "evil")(images)
    assert mark.exists(), "the functions are harmless, so this test shows nothing"
    mark.unlink()
    loaded = load_model(tmp_path / "evil")
    np.testing.assert_array_equal(loaded(images), expected)
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), expected)
    assert type(loaded.get_layer("logits")) is L.Dense
    assert not mark.exists()


def test_what_runs_when_a_saved_model_is_loaded_is_not_run(tmp_path):
    """A table that is filled from a file while TensorFlow loads the folder."""
    (tmp_path / "words.txt").write_text("one\ntwo\n")
    words = tf.lookup.TextFileInitializer(
        str(tmp_path / "words.txt"), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
    )  # fmt: skip
    model = keras.Sequential([L.InputLayer(SHAPE), L.Conv2D(2, 3), L.Flatten(), L.Dense(2)])
    model.table = tf.lookup.StaticHashTable(words, -1)
    model.save(tmp_path / "net", save_format="tf")
    (tmp_path / "net" / "assets" / "words.txt").unlink()
    with pytest.raises(FileNotFoundError):  # it has looked for the file
        tf.saved_model.load(tmp_path / "net")
    assert load_model(tmp_path / "net").count_params() == model.count_params()


def test_a_damaged_saved_model_is_refused(tmp_path):
    small_network().save(tmp_path / "net", save_format="tf")
    for name in ("keras_metadata.pb", "variables/variables.index"):
        path = tmp_path / "net" / name
        whole = path.read_bytes()
        for content in (whole[: len(whole) // 2], b"\xff" * 50, b""):
            path.write_bytes(content)
            with pytest.raises(ValueError, match="SavedModel"):
                load_model(tmp_path / "net")
        path.write_bytes(whole)
    assert load_model(tmp_path / "net").count_params()
