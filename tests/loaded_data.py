"""Datasets as tests read them, and what is said of one that cannot be read."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mmx_tf.data.loading import load
from mmx_tf.errors import DataError

SHARED_TFDS = Path(__file__).parents[1].parent / "shared" / "tfds"


def all_of(dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def message_of(name: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        load(name, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def check_skipped(data, *, batch_size, batches):
    """What is left of an epoch after some batches is what it is in the whole epoch."""
    images, labels = all_of(data.train(batch_size=batch_size, seed=5).take(batches))
    for skipped in range(1, batches):
        options = {"batch_size": batch_size, "seed": 5, "skip_batches": skipped}
        rest, rest_labels = all_of(data.train(**options).take(batches - skipped))
        np.testing.assert_array_equal(rest, images[skipped * batch_size :])
        np.testing.assert_array_equal(rest_labels, labels[skipped * batch_size :])


def by_content(data):
    """The training images of one epoch, not augmented, in an order that shuffling does not change."""
    images, labels = all_of(data.train(batch_size=data.train_images, seed=0, augment=False))
    order = sorted(range(len(labels)), key=lambda index: images[index].tobytes())
    return images[order], labels[order]
