"""Evaluation images as they are asked for: float images and their labels, batch by batch.

for images, labels in checked(eval_ds, image_shape=(32, 32, 3)):
    ...                                          # float32 [N, 32, 32, 3], labels [N, ...] as they come
"""

from collections.abc import Iterable, Iterator

import numpy as np

_INFINITE = -1  # tf.data.INFINITE_CARDINALITY


def checked(eval_ds: Iterable, *, image_shape: tuple[int, ...]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of `eval_ds` as arrays.

    Args:
      eval_ds: batches of (images [N, *image_shape], scaled as for training, labels [N, ...]), such as a
        tf.data.Dataset. What labels there may be depends on the task (`export.comparing.heads`).
      image_shape: of one image, as the network takes it.

    Raises:
      ValueError: if there are no images, or a batch is something else.
    """
    if getattr(eval_ds, "cardinality", lambda: 0)() == _INFINITE:
        raise ValueError(
            "eval_ds has no end (repeat()): give a dataset of the images once, or dataset.take(N)."
        )
    images_seen = 0
    for batch in eval_ds:
        if isinstance(batch, (tuple, list)) and len(batch) == 3:
            raise ValueError(
                "eval_ds gives sample weights too, and here every image counts the same: it must give pairs "
                "of (images, labels)."
            )
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(
                f"eval_ds gives {type(batch).__name__}; it must give pairs of (images, labels), in batches."
            )
        images, labels = (np.asarray(_only(part)) for part in batch)
        expected = "(N, " + ", ".join(map(str, image_shape)) + ")"
        if images.shape[1:] != tuple(image_shape):
            what = "images" if len(image_shape) == 3 else "inputs"
            raise ValueError(f"eval_ds gives {what} of shape {images.shape}; the network takes {expected}.")
        images = images.astype(np.float32, copy=False)
        if not np.all(np.isfinite(images)):
            raise ValueError("eval_ds gives images with values that are NaN or infinite.")
        if labels.shape[:1] != images.shape[:1] or labels.dtype.kind not in "iufb":
            raise ValueError(
                f"eval_ds gives {labels.dtype} labels of shape {labels.shape} for {len(images)} images; "
                "numbers are needed, for each image its own."
            )
        if labels.dtype.kind == "f" and not np.all(np.isfinite(labels)):
            raise ValueError("eval_ds gives labels that are NaN or infinite.")
        if not len(images):
            continue
        images_seen += len(images)
        yield images, labels
    if not images_seen:
        raise ValueError("eval_ds has no images; give at least one batch of (images, labels).")


def _only(part):
    """Of images or labels that are given by the name of the network's input or output, the one there is."""
    if isinstance(part, dict | list | tuple) and len(part) == 1:
        return next(iter(part.values() if isinstance(part, dict) else part))
    if isinstance(part, dict):
        raise ValueError(f"eval_ds gives the names {sorted(part)}; the network has one input and one output.")
    return part
