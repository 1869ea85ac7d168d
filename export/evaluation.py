"""Evaluation images as they are asked for: float images and integer labels, batch by batch.

for images, labels in checked(eval_ds, image_shape=(32, 32, 3)):
    ...                                          # float32 [N, 32, 32, 3], int [N]
"""

from collections.abc import Iterable, Iterator

import numpy as np


def checked(eval_ds: Iterable, *, image_shape: tuple[int, ...]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of `eval_ds` as arrays.

    Args:
      eval_ds: batches of (images [N, *image_shape], scaled as for training, integer labels [N]), such as a
        tf.data.Dataset.
      image_shape: of one image, as the network takes it.

    Raises:
      ValueError: if there are no images, or a batch is something else.
    """
    images_seen = 0
    for batch in eval_ds:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(
                f"eval_ds gives {type(batch).__name__}; it must give pairs of (images, labels), in batches."
            )
        images, labels = (np.asarray(part) for part in batch)
        expected = "(N, " + ", ".join(map(str, image_shape)) + ")"
        if images.shape[1:] != tuple(image_shape):
            raise ValueError(f"eval_ds gives images of shape {images.shape}; the network takes {expected}.")
        images = images.astype(np.float32, copy=False)
        if not np.all(np.isfinite(images)):
            raise ValueError("eval_ds gives images with values that are NaN or infinite.")
        if labels.size != len(images) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"eval_ds gives {labels.dtype} labels of shape {labels.shape} for {len(images)} images; one "
                "integer per image is needed, no one-hot vectors."
            )
        images_seen += len(images)
        yield images, labels.reshape(-1)
    if not images_seen:
        raise ValueError("eval_ds has no images; give at least one batch of (images, labels).")
