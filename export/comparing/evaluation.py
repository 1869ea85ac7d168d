"""Evaluation images as they are asked for: float images and their labels, batch by batch.

for images, labels in checked(eval_ds, image_shape=(32, 32, 3)):
    ...                                          # float32 [N, 32, 32, 3], labels [N, ...] as they come
for images, labels in checked(eval_ds, image_shape=(32, 32, 3), outputs=Outputs(("class", "box"))):
    ...                                          # a list of labels, None for an output without
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from mmx_tf.export.comparing.inputs import of_inputs, size_of
from mmx_tf.export.comparing.outputs import Outputs

_ONE = Outputs(("",))
_INFINITE = -1  # tf.data.INFINITE_CARDINALITY


def checked(
    eval_ds: Iterable, *, image_shape: tuple[int, ...] | Mapping, outputs: Outputs = _ONE
) -> Iterator[tuple[np.ndarray | dict, np.ndarray | list]]:
    """The batches of `eval_ds` as arrays.

    Args:
      eval_ds: batches of (images [N, *image_shape], scaled as for training, labels [N, ...]), such as a
        tf.data.Dataset. What labels there may be depends on the task (`export.comparing.heads`).
      image_shape: of one image, as the network takes it; of several inputs in a dict by their names, and
        so are the images that come out.
      outputs: the network's. Of several the labels are in a dict by their names, in a list or tuple in their
        order, or one array is for each of them, as in Keras's fit; a dict may lack those of an output.

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
        images, labels = _images(batch[0], image_shape), _labels(batch[1], outputs)
        size = size_of(images)
        for part, name in zip(labels, outputs.names, strict=True):
            if part is not None:
                _check(part, size, f" of output {name!r}" if outputs.several else "")
        if not size:
            continue
        images_seen += size
        yield images, labels if outputs.several else labels[0]
    if not images_seen:
        raise ValueError("eval_ds has no images; give at least one batch of (images, labels).")


def _images(given, image_shape):
    """Checked images as float32: an array, or of several inputs a dict of them."""
    if not isinstance(image_shape, Mapping):
        return _float(np.asarray(_only(given)), tuple(image_shape))
    parts = of_inputs(given, list(image_shape), "eval_ds gives images that")
    found = {
        name: _float(np.asarray(part), shape, f" of input {name!r}")
        for (name, shape), part in zip(image_shape.items(), parts, strict=True)
    }
    if len({len(part) for part in found.values()}) > 1:
        sizes = ", ".join(f"{name!r}: {len(part)}" for name, part in found.items())
        raise ValueError(f"eval_ds gives inputs with different numbers of images ({sizes}).")
    return found


def _float(images: np.ndarray, shape: tuple[int, ...], of: str = "") -> np.ndarray:
    expected = "(N, " + ", ".join(map(str, shape)) + ")"
    if images.shape[1:] != shape:
        what = "images" if len(shape) == 3 else "inputs"
        raise ValueError(f"eval_ds gives {what}{of} of shape {images.shape}; the network takes {expected}.")
    images = images.astype(np.float32, copy=False)
    if not np.all(np.isfinite(images)):
        raise ValueError(f"eval_ds gives images{of} with values that are NaN or infinite.")
    return images


def _labels(given, outputs: Outputs) -> list:
    """The labels of each output as arrays; None for one that a dict leaves out."""
    if not outputs.several:
        return [np.asarray(_only(given))]
    parts = outputs.each(given, "eval_ds gives labels that have")
    return [None if part is None else np.asarray(part) for part in parts]


def _check(labels: np.ndarray, images: int, of: str) -> None:
    if labels.shape[:1] != (images,) or labels.dtype.kind not in "iufb":
        raise ValueError(
            f"eval_ds gives {labels.dtype} labels{of} of shape {labels.shape} for {images} images; "
            "give numbers, one label for each image."
        )
    if labels.dtype.kind == "f" and not np.all(np.isfinite(labels)):
        raise ValueError(f"eval_ds gives labels{of} that are NaN or infinite.")


def _only(part):
    """Of images or labels that are given by the name of the network's input or output, the one there is."""
    if isinstance(part, dict | list | tuple) and len(part) == 1:
        return next(iter(part.values() if isinstance(part, dict) else part))
    if isinstance(part, dict):
        raise ValueError(f"eval_ds gives the names {sorted(part)}; the network has one input and one output.")
    return part
