"""ResNet-8 and MobileNet-v1 beside MLPerf Tiny's networks, and as variants; its benchmark's file."""

import json
import pathlib
import sys

import numpy as np
import pytest
import tf_keras as keras

import mmx_tf
from benchmarks import mlperf_tiny
from mmx_tf import models

FOLDER = pathlib.Path(__file__).parents[2] / "shared" / "models" / "mlperf_tiny"
# File, what it is built with here, and the largest of its pixels.
REFERENCES = {
    "resnet8": ("pretrainedResnet.h5", {"input_shape": (32, 32, 3), "num_classes": 10}, 255),
    "mobilenet_v1": ("vww_96.h5", {"input_shape": (96, 96, 3), "num_classes": 2, "width": 0.25}, 1),
}


@pytest.fixture(scope="module", params=REFERENCES)
def pair(request):
    """(ours, the reference, its largest pixel)."""
    file, options, largest = REFERENCES[request.param]
    if not (FOLDER / file).exists():
        pytest.skip(f"NO {FOLDER / file}: {request.param} IS NOT COMPARED WITH MLPERF TINY'S")
    return models.build(request.param, **options), mmx_tf.load_model(FOLDER / file), largest


def described(network):
    """What every layer is, in order, without its name; an average over all places is one, however written."""
    found = []
    for layer in network.layers:
        config = layer.get_config()
        if isinstance(layer, keras.layers.ReLU | keras.layers.Activation):
            clipped = config.get("max_value"), config.get("threshold"), config.get("negative_slope")
            kind, what = config.get("activation", "relu"), {"unlike ReLU": any(clipped)}
        elif "Pooling" in type(layer).__name__:
            kind, what = "mean", {"places": layer.input_shape[1:3]}
        else:
            keys = ("filters", "units", "kernel_size", "strides", "padding", "use_bias", "epsilon")
            kind, what = type(layer).__name__, {key: config[key] for key in keys if key in config}
        if kind != "Flatten":
            found.append((kind, what, [tuple(weight.shape) for weight in layer.weights]))
    return found


def test_it_is_the_reference_layer_by_layer(pair):
    ours, reference, _ = pair
    assert described(ours) == described(reference)


def test_equal_weights_give_the_references_probabilities(pair):
    ours, reference, largest = pair
    ours.set_weights(reference.get_weights())
    pixels = np.random.default_rng(0).uniform(0, largest, (4, *ours.input_shape[1:])).astype(np.float32)
    expected = reference(pixels).numpy()
    np.testing.assert_allclose(keras.layers.Softmax()(ours(pixels)), expected, atol=1e-5)
    assert expected.max() > 1.2 / expected.shape[1]


@pytest.mark.parametrize(
    ("name", "width", "parameters"),
    [
        # By hand: kernels, a bias and a norm's four numbers a channel, shortcuts, classifier.
        (
            "resnet8", 1.0,
            27 * 16 + 5 * 16 + 2 * (144 * 16 + 5 * 16) + 144 * 32 + 288 * 32 + 10 * 32 + 16 * 32 + 32
            + 288 * 64 + 576 * 64 + 10 * 64 + 32 * 64 + 64 + 64 * 10 + 10,
        ),
        (
            "resnet8", 0.5,
            27 * 8 + 5 * 8 + 2 * (72 * 8 + 5 * 8) + 72 * 16 + 144 * 16 + 10 * 16 + 8 * 16 + 16
            + 144 * 32 + 288 * 32 + 10 * 32 + 16 * 32 + 32 + 32 * 10 + 10,
        ),
    ],
)  # fmt: skip
def test_parameters_by_hand(name, width, parameters):
    network = models.build(name, input_shape=(32, 32, 3), num_classes=10, width=width)
    assert network.count_params() == parameters


def test_channels_of_mobilenet_v1_at_its_widths():
    """At width 1 those of Keras's own MobileNet, at others multiples of 8."""
    own = keras.applications.MobileNet(input_shape=(128, 128, 3), weights=None)
    ours = models.build("mobilenet_v1", input_shape=(128, 128, 3), num_classes=1000)
    for layer in ours.layers:
        if layer.name.startswith("conv") and not layer.name.endswith("relu"):
            theirs = own.get_layer(layer.name)
            assert (type(layer), layer.output_shape) == (type(theirs), theirs.output_shape), layer.name
    narrow = models.build("mobilenet_v1", input_shape=(96, 96, 1), num_classes=2, width=0.3)
    assert [narrow.get_layer(f"conv_pw_{index}").filters for index in (1, 2, 4, 13)] == [24, 40, 80, 304]


def test_small_images_keep_their_resolution_in_the_first_two_reductions_of_mobilenet_v1():
    network = models.build("mobilenet_v1", input_shape=(32, 32, 3), num_classes=10, width=0.25)
    shapes = {"conv1": 32, "conv_dw_2": 32, "conv_dw_4": 16, "conv_dw_6": 8, "conv_dw_12": 4, "conv_pw_13": 4}
    for name, size in shapes.items():
        assert network.get_layer(name).output_shape[1:3] == (size, size), name


@pytest.mark.parametrize("name", ["mobilenet_v1", "resnet8"])
def test_there_are_no_imagenet_weights(name):
    network = models.build(name, input_shape=(224, 224, 3), num_classes=1000, width=0.25)
    with pytest.raises(models.ModelError, match="no ImageNet weights of .*--float_model=FILE.keras"):
        models.load_imagenet_weights(name, network)


@pytest.mark.slow
def test_the_benchmark_leaves_the_rows_of_networks_that_it_does_not_run(tmp_path, monkeypatch):
    """The one that it runs has no file here, which is told in its row."""
    out, old = tmp_path / "runs.json", {"commit": "0" * 40}
    out.write_text(json.dumps({"provenance": old, "results": {"kws": {"float_top1": 0.5}}}))
    words = ["mlperf_tiny", f"--models={tmp_path}", "--networks=ad", f"--json={out}"]
    monkeypatch.setattr(sys, "argv", words)
    mlperf_tiny.main()
    written = json.loads(out.read_text())
    assert written["results"]["kws"] == {"float_top1": 0.5}
    failed = written["results"]["ad"]
    assert failed["exit_code"] == 2 and "ad01.h5" in failed["error"][0]
    assert written["provenance"]["earlier"] == [old]
