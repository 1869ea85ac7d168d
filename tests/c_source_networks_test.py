"""Whole networks as C source on this machine: every tensor against the reference interpreter."""

import numpy as np
import pytest
import tf_keras as keras
from compiled_network import FAST, assert_exact, needed
from networks import calibrated

import mmx_tf
from benchmarks.networks import crops, with_statistics_of
from mmx_tf import data as datasets
from mmx_tf import models
from mmx_tf.export import reference

SIZE = 32
KERAS_SIZE = 64
pytestmark = [pytest.mark.slow, needed]


def built_in(name, width):
    return lambda: models.build(name, input_shape=(SIZE, SIZE, 1), num_classes=10, width=width)


NETWORKS = {
    "mobilenet_v1_025": built_in("mobilenet_v1", 0.25),
    "mobilenet_v2_035": built_in("mobilenet_v2", 0.35),
    "resnet8": built_in("resnet8", 1.0),
}


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", image_size=SIZE)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_of_a_whole_network(name, digits, tmp_path):
    """The layers take 8, 4 and 3 bits in turn; windows are written over their input, sums fused."""
    images = np.concatenate([images for images, _ in digits.evaluation(batch_size=8)])[:4]
    exact(tmp_path, mmx_tf.fold(calibrated(NETWORKS[name](), digits)), images)


def test_every_tensor_of_mobilenet_v3_small(tmp_path):
    """Gates, hard-swish and pooled averages; batch-norm statistics are those of crops of photographs."""
    network = keras.applications.MobileNetV3Small(
        input_shape=(KERAS_SIZE, KERAS_SIZE, 3),
        weights=None,
        classes=10,
        classifier_activation=None,
        include_preprocessing=False,
    )
    images = crops(KERAS_SIZE, 32)
    with_statistics_of(network, images)
    search = mmx_tf.augment(
        network, bit_widths=(8, 4, 3), target_average_bits=5, pixel_scaling=(1 / 127.5, -1)
    )
    search(images, branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([i % 3 for i in range(len(search.quantizers))]))
    fixed(images, training=True)
    exact(tmp_path, mmx_tf.fold(fixed), images[:4])


def exact(folder, folded, images):
    data = mmx_tf.convert(folded)
    (image,) = reference.load(data).inputs
    pixels = np.rint(255 * (images - images.min()) / np.ptp(images)).astype(np.uint8)
    made = assert_exact(folder, data, {image.name: pixels}, flags=FAST)
    assert made.ram_bytes < made.flash_bytes
