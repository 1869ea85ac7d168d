"""Evaluation images that fit, and those that do not: one error that names what came and what is needed."""

import numpy as np
import pytest
import tensorflow as tf

from mmx_tf.export.comparing.evaluation import checked

SHAPE = (4, 5, 3)
IMAGES, LABELS = np.zeros((6, *SHAPE), np.float32), np.arange(6)


def batches(images, labels):
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)


def test_batches_come_as_float_images_and_their_labels():
    found = list(checked(batches(IMAGES.astype(np.uint8) + 7, LABELS[:, None]), image_shape=SHAPE))
    assert [images.shape for images, _ in found] == [(4, *SHAPE), (2, *SHAPE)]
    assert {images.dtype for images, _ in found} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.concatenate([images for images, _ in found]), IMAGES + 7)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in found]), LABELS[:, None])


@pytest.mark.parametrize(
    ("eval_ds", "message"),
    [
        (batches(IMAGES[:, :, :3], LABELS), r"\(4, 4, 3, 3\); the network takes \(N, 4, 5, 3\)"),
        (batches(IMAGES[..., :1], LABELS), r"\(4, 4, 5, 1\); the network takes"),
        ([(IMAGES[0], LABELS[0])], r"shape \(4, 5, 3\); the network takes"),
        (batches(IMAGES + np.nan, LABELS), "NaN or infinite"),
        (batches(IMAGES, LABELS + 1j), r"complex128 labels of shape \(4,\) for 4 images; give numbers"),
        (batches(IMAGES, LABELS + np.nan), "labels that are NaN or infinite"),
        (tf.data.Dataset.from_tensor_slices(IMAGES).batch(4), r"must give pairs of \(images, labels\)"),
        ([(IMAGES, LABELS, LABELS)], "must give pairs"),
        ([(IMAGES, LABELS[:3])], r"labels of shape \(3,\) for 6 images"),
        (batches(IMAGES[:0], LABELS[:0]), "no images"),
        ([], "no images"),
    ],
)
def test_what_does_not_fit_is_named(eval_ds, message):
    with pytest.raises(ValueError, match=message):
        list(checked(eval_ds, image_shape=SHAPE))
