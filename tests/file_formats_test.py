"""Float networks in the formats that people have them in: each loads as the network that was saved."""

import pathlib

import h5py
import keras as keras_3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from keras3_networks import with_random_weights
from networks import randomize_statistics, small_network
from refusals import refused
from tensorflow.core.protobuf import saved_model_pb2
from tf_keras.protobuf import saved_metadata_pb2

import mmx_tf
from mmx_tf.formats.paths import format_of
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.workdir import fingerprints

L = keras.layers
MLPERF_TINY = pathlib.Path(__file__).parents[1].parent / "shared" / "models" / "mlperf_tiny"
SHAPE = (16, 16, 1)

pytestmark = [
    pytest.mark.broad,
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]


def functional():
    network = small_network()
    randomize_statistics(network, seed=1)
    network.compile("adam", "mse", metrics=["accuracy"])
    network.fit(np.ones((2, *SHAPE)), np.zeros((2, 10)), verbose=0)  # the optimizer has a state
    return network


def sequential():
    layers = [L.Conv2D(4, 3, activation="relu6"), L.BatchNormalization(), L.Flatten(), L.Dense(5), L.Dense(3)]
    network = keras.Sequential([L.InputLayer(SHAPE), *layers])
    randomize_statistics(network, seed=2)
    return network


def without_an_input():
    """A Sequential model that has learnt its input's shape when it was first called."""
    network = keras.Sequential([L.Conv2D(4, 3), L.Flatten(), L.Dense(5), L.Dense(3)])
    network(np.zeros((1, *SHAPE), np.float32))
    return network


def nested():
    inside = keras.Sequential([L.InputLayer((14, 14, 4)), L.Conv2D(4, 1), L.BatchNormalization(), L.ReLU(6)])
    image = keras.Input(SHAPE)
    x = inside(L.Conv2D(4, 3)(L.Rescaling(1 / 255, offset=-0.5)(image)))
    x = tf.nn.relu6(x + 3.0) * (1 / 6)
    network = keras.Model(image, L.Dense(3)(L.GlobalAveragePooling2D()(L.Conv2D(5, 3, activation="relu")(x))))
    randomize_statistics(inside, seed=3)
    return network


def with_statistics_of_its_images():
    normalization = L.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(3, 2, (8, *SHAPE)))
    image = keras.Input(SHAPE)
    x = L.Conv2D(4, 3, activation=L.ReLU(6))(normalization(image))
    return keras.Model(image, L.Dense(3)(L.Flatten()(L.SeparableConv2D(4, 3)(x))))


def regularized():
    options = {"kernel_regularizer": "l2", "kernel_constraint": "max_norm", "kernel_initializer": "he_normal"}
    image = keras.Input(SHAPE)
    x = L.Conv2D(4, 3, **options)(L.Conv2D(4, 3, **options)(image))
    return keras.Model(image, L.Dense(3, activation="softmax")(L.Flatten()(x)))


NETWORKS = {
    case.__name__: case
    for case in (functional, sequential, without_an_input, nested, with_statistics_of_its_images, regularized)
}
WAYS = {
    "h5": lambda model, folder: model.save(folder / "net.h5"),
    "hdf5": lambda model, folder: model.save(folder / "net.hdf5", include_optimizer=False),
    "h5 as .keras": lambda model, folder: model.save(folder / "net.keras", save_format="h5"),
    "SavedModel": lambda model, folder: model.save(folder / "net", save_format="tf"),
    "SavedModel without traces": lambda model, folder: model.save(
        folder / "net", save_format="tf", save_traces=False
    ),
    "SavedModel as .keras": lambda model, folder: model.save(folder / "net.keras", save_format="tf"),
    "keras": lambda model, folder: model.save(folder / "net.keras"),
}
COMMON = ("h5", "SavedModel", "keras")


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)


def assert_same(loaded, network, images):
    """The same outputs to the last bit, and the same weights by the same names."""
    np.testing.assert_array_equal(loaded(images), network(images))
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in network.layers]
    assert len(loaded.get_weights()) == len(network.get_weights()) > 0
    for one, other in zip(loaded.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# The formats themselves for every network, other names and options for one.
PAIRS = [(case, way) for way in WAYS for case in NETWORKS if case == "functional" or way in COMMON]


@pytest.mark.parametrize(("case", "way"), PAIRS)
def test_keras_2(case, way, tmp_path, images):
    network = NETWORKS[case]()
    WAYS[way](network, tmp_path)
    (path,) = tmp_path.iterdir()
    loaded = mmx_tf.load_model(path)
    assert_same(loaded, network, images)
    assert not loaded._is_compiled


@pytest.mark.parametrize("way", ["h5", "SavedModel"])
def test_augment_takes_paths(way, tmp_path):
    WAYS[way](functional(), tmp_path)
    (path,) = tmp_path.iterdir()
    assert len(mmx_tf.augment(path, target_average_bits=5).quantizers) == 3


def test_a_file_of_mixed_precision(tmp_path, images):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        network = sequential()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    for way in ("h5", "SavedModel"):
        WAYS[way](network, tmp_path / way)
        (path,) = (tmp_path / way).iterdir()
        assert_same(mmx_tf.load_model(path), network, images)


def as_before_2_5(path):
    """Rewrites a SavedModel as TensorFlow 2.0 to 2.4 wrote it: Keras's notes are in the graph of objects."""
    notes = saved_metadata_pb2.SavedMetadata.FromString((path / "keras_metadata.pb").read_bytes())
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    for note in notes.nodes:
        user_object = saved.meta_graphs[0].object_graph_def.nodes[note.node_id].user_object
        user_object.identifier, user_object.metadata = note.identifier, note.metadata
    (path / "saved_model.pb").write_bytes(saved.SerializeToString())
    (path / "keras_metadata.pb").unlink()


@pytest.mark.parametrize("case", ["functional", "sequential", "nested"])
def test_a_saved_model_of_before_tensorflow_2_5(case, tmp_path, images):
    network = NETWORKS[case]()
    network.save(tmp_path / "net", save_format="tf")
    as_before_2_5(tmp_path / "net")
    assert_same(mmx_tf.load_model(tmp_path / "net"), network, images)


def test_weights_that_are_not_in_the_saved_model_are_named(tmp_path):
    sequential().save(tmp_path / "net", save_format="tf")
    path = tmp_path / "net" / "keras_metadata.pb"
    notes = saved_metadata_pb2.SavedMetadata.FromString(path.read_bytes())
    notes.nodes[0].metadata = notes.nodes[0].metadata.replace('"units": 5', '"units": 6')
    path.write_bytes(notes.SerializeToString())
    with pytest.raises(
        ValueError, match=r"numbers of shape \(784, 5\) for dense.*kernel:0, of shape \(784, 6\)"
    ):
        mmx_tf.load_model(tmp_path / "net")
    for variables in (tmp_path / "net" / "variables").iterdir():
        variables.unlink()
    with pytest.raises(ValueError, match="is not a whole SavedModel of a Keras 2 model"):
        mmx_tf.load_model(tmp_path / "net")


def of_keras_3():
    layers, ops = keras_3.layers, keras_3.ops
    inside = keras_3.Sequential(
        [keras_3.Input((14, 14, 4)), layers.Conv2D(4, 1), layers.BatchNormalization()]
    )
    image = keras_3.Input(SHAPE)
    x = layers.Conv2D(4, 3, activation=layers.ReLU(6), kernel_regularizer="l2")(image * 2.0 + 1.0)
    x = layers.Add()([inside(x), x])
    x = layers.Multiply()([x, ops.mean(x, axis=(1, 2), keepdims=True)])
    x = ops.concatenate([ops.relu(x), keras_3.activations.relu(x, max_value=2.0), ops.hard_silu(x)], axis=-1)
    x = layers.Dropout(0.5)(ops.max_pool(x + ops.clip(x, 0, 1.5), 2))
    return keras_3.Model(image, layers.Dense(3)(layers.Flatten()(layers.Conv2D(2, 3)(x))))


def sequential_of_keras_3():
    layers = keras_3.layers
    return keras_3.Sequential([keras_3.Input(SHAPE), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])


@pytest.mark.parametrize("name", ["net.h5", "net.hdf5", "net"])
@pytest.mark.parametrize("build", [of_keras_3, sequential_of_keras_3])
def test_h5_files_of_keras_3(build, name, tmp_path, images):
    network = with_random_weights(build())
    network.compile("adam", "mse")
    network.save(tmp_path / "net.h5")
    network.save(tmp_path / "net.keras")
    (tmp_path / "net.h5").rename(tmp_path / name)
    loaded = mmx_tf.load_model(tmp_path / name)
    np.testing.assert_allclose(loaded(images), network(images, training=False), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(loaded(images), mmx_tf.load_model(tmp_path / "net.keras")(images))
    if build is of_keras_3:
        mmx_tf.augment(tmp_path / name, target_average_bits=5, allow_unexportable=True)


def test_h5_files_of_keras_1_say_what_is_wrong(tmp_path):
    sequential().save(tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        config = file.attrs["model_config"]
        file.attrs["model_config"] = config.replace('"filters"', '"nb_filter"')
        file.attrs["keras_version"] = "1.2.2"
    with pytest.raises(ValueError, match="cannot be built by tf_keras: .*nb_filter"):
        mmx_tf.load_model(tmp_path / "net.h5")


def test_kernels_of_another_backend_are_not_taken_as_they_are(tmp_path):
    sequential().save(tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        file.attrs["backend"] = file["model_weights"].attrs["backend"] = "theano"
    with pytest.raises(ValueError, match="by Keras on theano, whose convolutions have other kernels"):
        mmx_tf.load_model(tmp_path / "net.h5")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_half_an_h5_file_is_refused(tmp_path, share):
    sequential().save(tmp_path / "net.h5")
    content = (tmp_path / "net.h5").read_bytes()
    (tmp_path / "net.h5").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="is not a whole .h5 file"):
        mmx_tf.load_model(tmp_path / "net.h5")


@pytest.mark.parametrize("name", ["pretrainedResnet.h5", "vww_96.h5", "ad01.h5", "kws_ref_model"])
def test_published_networks(name):
    path = MLPERF_TINY / name
    if not path.exists():
        pytest.skip(f"NOT TESTED: MLPerf Tiny's {path} is not there")
    loaded, theirs = mmx_tf.load_model(path), keras.models.load_model(path, compile=False)
    images = np.random.default_rng(0).normal(size=(2, *loaded.input_shape[1:])).astype(np.float32)
    np.testing.assert_array_equal(loaded(images), theirs(images, training=False))
    mmx_tf.augment(path, target_average_bits=5)


@pytest.mark.parametrize("way", ["h5", "SavedModel"])
def test_the_command_takes_them(capsys, tmp_path, good, way):
    WAYS[way](keras.Sequential([L.InputLayer((9, 9, 1)), L.Flatten(), L.Dense(10)]), tmp_path)
    (path,) = tmp_path.iterdir()
    # What is wrong with the network is known only after it has been loaded.
    message = refused(capsys, tmp_path, f"--float_model={path}")
    assert "takes images of shape (9, 9, 1)" in message
    (tmp_path / "teacher").mkdir()
    WAYS[way](sequential(), tmp_path / "teacher")
    (teacher,) = (tmp_path / "teacher").iterdir()
    message = refused(capsys, tmp_path, f"--float_model={good}", f"--teacher={teacher}")
    assert f"--teacher={teacher} has 3 classes" in message


def test_a_folder_is_known_by_what_is_in_it(tmp_path):
    path = tmp_path / "net"
    sequential().save(path, save_format="tf")
    recipe = Recipe.from_flagfile(f"--float_model={path}\n--workdir={tmp_path / 'run'}")
    recipe.validate()
    before = fingerprints.of_file(path)
    assert before["bytes"] == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert fingerprints.changes(recipe, {"float_model": before}, {"float_model": before}) == []
    index = path / "variables" / "variables.index"
    index.write_bytes(index.read_bytes()[::-1])
    now = fingerprints.of_file(path)
    (change,) = fingerprints.changes(recipe, {"float_model": before}, {"float_model": now})
    assert f"--float_model={path}: the folder is not what this run began with: SHA-256" in change
    index.write_bytes(index.read_bytes()[::-1])
    assert fingerprints.of_file(path) == before
    index.rename(index.with_name("another.index"))
    assert fingerprints.of_file(path)["sha256"] != before["sha256"]


def test_what_a_path_is_does_not_hang_on_its_name(tmp_path):
    sequential().save(tmp_path / "a.h5")
    (tmp_path / "a.h5").rename(tmp_path / "network")
    assert format_of(str(tmp_path / "network")) == "h5"
    sequential().save(tmp_path / "b.keras")
    sequential_of_keras_3().save(tmp_path / "c.keras")
    formats = [format_of(str(tmp_path / name)) for name in ("b.keras", "c.keras")]
    assert formats == ["keras", "keras3"]
