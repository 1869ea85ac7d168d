"""The files that `benchmarks.microcontroller` measures: small networks with several choices of bits.

    make(pathlib.Path("files"), data_dir="tfds")        # NAME_CHOICE.tflite, and NAME.npy with images

The networks of microcontrollers, briefly trained on real images: what they take of memory and instructions
depends on shapes and bits alone, and equal codes are asked for, not accuracy. All weights but those of the
first and last layer have 4 bits.
"""

import pathlib
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tf_keras as keras

import mmx_tf
from mmx_tf import data, models
from mmx_tf.export.atomic import write_atomically

BATCH_SIZE = 32
IMAGES = 32


@dataclass(frozen=True)
class Network:
    """A built-in network: `model`, `image_size`, `dataset`, number of `classes` and `width`."""

    model: str
    image_size: int
    dataset: str
    classes: int
    width: float = 1.0


NETWORKS = {
    "digits": Network("mobilenet_v2", 16, "digits", 10, 0.35),
    "resnet8": Network("resnet8", 32, "cifar10", 10),
    "mobilenet_v1_025_96": Network("mobilenet_v1", 96, "cifar10", 2, 0.25),
    "mobilenet_v2_035_96": Network("mobilenet_v2", 96, "cifar10", 2, 0.35),
}
BIT_WIDTHS = (8, 4, 2)
CHOICES = {"a8": (0,), "a4": (1,), "mixed": (1, 0, 2, 1)}
"""Indices of `BIT_WIDTHS` in turn, over the layers whose activations have bits to choose."""


def make(folder: pathlib.Path, names, *, data_dir: str, steps: int) -> None:
    """Writes the files of networks in `NETWORKS`.

    Args:
      folder: made if it is not there; files of these names are replaced.
      names: of networks.
      data_dir: of prepared TFDS datasets, with cifar10.
      steps: of float training; each choice of bits is trained for a quarter of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        wanted = NETWORKS[name]
        dataset = data.load(wanted.dataset, data_dir=data_dir, image_size=wanted.image_size)
        pixels = np.concatenate([images for images, _ in _evaluation(dataset)])
        np.save(folder / f"{name}.npy", np.rint((pixels + 1) * 127.5).astype(np.uint8))
        float_model = _trained(wanted, dataset, steps)
        for choice, indices in CHOICES.items():
            fixed = _fixed(float_model, _training(dataset, wanted.classes), indices, max(1, steps // 4))
            path = folder / f"{name}_{choice}.tflite"
            write_atomically(path, mmx_tf.convert(mmx_tf.fold(fixed)))
            print(path, flush=True)


def _evaluation(dataset):
    return dataset.evaluation(batch_size=IMAGES).take(1)


def _training(dataset, classes: int):
    """Batches without end; of fewer classes than the dataset's, those that are left over are the last."""
    batches = dataset.train(batch_size=BATCH_SIZE, seed=0).repeat()
    return batches.map(lambda images, labels: (images, tf.minimum(labels, classes - 1)))


def _compiled(network):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(1e-3), loss)
    return network


def _trained(wanted: Network, dataset, steps: int):
    keras.utils.set_random_seed(0)
    network = models.build(
        wanted.model, input_shape=dataset.image_shape, num_classes=wanted.classes, width=wanted.width
    )
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8  # settles in the few steps that there are
    _compiled(network).fit(_training(dataset, wanted.classes), steps_per_epoch=steps, verbose=0)
    return network


def _fixed(float_model, batches, indices, steps: int):
    search = mmx_tf.augment(float_model, bit_widths=BIT_WIDTHS, weight_bits=4)
    images, _ = next(iter(batches))
    search(images, branch=0)
    choice = [indices[place % len(indices)] for place in range(len(search.quantizers))]
    fixed = mmx_tf.rebuild(search, search.selection_of(choice))
    _compiled(fixed).fit(batches, steps_per_epoch=steps, verbose=0)
    return fixed
