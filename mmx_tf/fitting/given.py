"""What `fit` is given, looked at before anything is traced: the first batch, shapes, labels.

>>> given = Given(images, labels, batch_size=32)     # any data that Keras's fit takes; given.x goes to Keras
>>> given.check(search.network)                      # ValueError: one sentence, with what to do
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import logging

from mmx_tf.export.comparing.inputs import of_inputs
from mmx_tf.network import keras3_twins

FIRST_IMAGES = 512
"""Most images that are taken of arrays where a first batch is asked for."""


@dataclasses.dataclass
class Given:
    """The data of a call of `fit`, `evaluate` or `predict`.

    Attributes:
      x: what Keras is given: images, a Dataset, a Sequence or a generator. Of a generator whose first batch
        has been looked at, one that gives this batch again.
      y: labels, if x is images.
      batch_size: of arrays.
    """

    x: object
    y: object = None
    batch_size: int | None = None

    def __post_init__(self):
        """Takes a PyDataset of Keras 3 for a Sequence."""
        self.x, self.y = _as_array(keras3_twins.as_sequence(self.x)), _as_array(self.y)
        self._first = None

    @property
    def is_arrays(self) -> bool:
        """Whether x is the images themselves."""
        return not _gives_batches(self.x)

    def first(self) -> tuple | None:
        """The first batch: (images,), (images, labels) or with sample weights; None where it cannot be had.

        Raises:
          ValueError: without one.
        """
        if self._first is None:
            self._first = self._taken()
        return self._first

    def described(self, *, consume: bool) -> tuple | None:
        """A batch, or what is known of all batches: parts with a shape, and mostly a dtype.

        Args:
          consume: take the first batch of a Dataset too, of which the specification is known without.
        """
        spec = getattr(self.x, "element_spec", None)
        if spec is None or (consume and isinstance(self.x, tf.data.Dataset)):
            return self.first()
        return _parts(spec)

    def _taken(self) -> tuple | None:
        if self.is_arrays:
            labels = () if self.y is None else (self.y,)
            return tuple(tf.nest.map_structure(_head, part) for part in (self.x, *labels))
        if isinstance(self.x, keras.utils.Sequence):
            if not len(self.x):
                raise self._empty()
            return _parts(self.x[0])
        if isinstance(self.x, tf.data.Dataset):
            for batch in self.x.take(1):
                return _parts(batch)
            raise self._empty()
        if isinstance(self.x, Iterator):
            batch = next(self.x, None)
            if batch is None:
                raise self._empty()
            self.x = itertools.chain([batch], self.x)
            return _parts(batch)
        return None

    def _empty(self) -> ValueError:
        behind = ""
        if isinstance(self.x, tf.data.Dataset):
            behind = ", and no larger batches than it has images where they are made with drop_remainder=True"
        return ValueError(f"the data has no batch: give a dataset with images{behind}.")

    def check(self, network: keras.Model, *, consume: bool = False, labelled: bool = True) -> None:
        """Checks what is known of the batches against a network.

        Args:
          network: functional network of one image.
          consume: as for `described`.
          labelled: whether labels are needed.

        Raises:
          TypeError: for something that Keras takes no batches from.
          ValueError: for data without a batch, images of another shape than the network's, a single image in
            a batch's place, or labels that are missing or are not as many as the images.
        """
        self._check_kind()
        if isinstance(self.x, tf.data.Dataset) and int(self.x.cardinality()) == 0:
            raise self._empty()
        parts = self.described(consume=consume)
        if parts is None:
            return
        if (
            self.is_arrays
            and len(network.inputs) == 1
            and isinstance(self.x, list | tuple)
            and len(self.x) > 1
        ):
            raise ValueError(
                f"x is a list of {len(self.x)} arrays. Keras takes them as one array for each input, and the "
                "network has one input: give np.stack(x)."
            )
        images = images_of(parts[0], network)
        named = [("images", image) for image in images] + [("labels", labels) for labels in parts[1:2]]
        for name, part in named:
            if kind := no_numbers(part):
                raise ValueError(f"{name} are {kind}: give numbers; classes are numbered from 0.")
        for index, image in enumerate(images):
            check_shape(getattr(image, "shape", None), network, index)
        if labelled and (len(parts) < 2 or parts[1] is None):
            how = "y is missing" if self.is_arrays else f"the data gives {type(parts[0]).__name__} alone"
            raise ValueError(
                f"{how}: give images with their labels, as (images, labels) batches or as x and y."
            )
        if self.is_arrays and labelled:
            images, labels = (np.shape(tf.nest.flatten(part)[0])[0] for part in (self.x, self.y))
            if images != labels:
                raise ValueError(f"x has {images} images and y has {labels} labels: give one for each image.")
            if not images:
                raise ValueError("x has no images: give at least one batch.")

    def _check_kind(self) -> None:
        if self.x is None:
            raise ValueError(
                "there is no data: give images and labels as x and y, or a dataset of (images, labels) "
                "batches."
            )
        if callable(self.x) and not _gives_batches(self.x) and not hasattr(self.x, "shape"):
            raise TypeError(f"x is the function {getattr(self.x, '__name__', '')!r}: call it, x=function().")
        for name, given in (("x", self.x), ("y", self.y)):
            for part in tf.nest.flatten(given) if self.is_arrays else ():
                if part is not None and not hasattr(part, "shape"):
                    raise TypeError(
                        f"{name} is or holds a {type(part).__name__}: give a NumPy array or a tensor, such "
                        f"as np.asarray({name}), or as x a tf.data.Dataset, Sequence or generator of batches."
                    )

    def untold_label_ranks(self):
        """Ranks of the labels of a Dataset that does not tell them, in their form; else None."""
        if not isinstance(self.x, tf.data.Dataset):
            return None
        labels = tf.nest.flatten([*_parts(self.x.element_spec), None][1])
        if not any(hasattr(one, "shape") and one.shape.rank is None for one in labels):
            return None
        return tf.nest.map_structure(np.ndim, self.first()[1])

    def steps(self, options: dict) -> int | None:
        """The steps that a call of `fit` with these further arguments takes; None where it is not known."""
        epochs = options.get("epochs", 1) - options.get("initial_epoch", 0)
        steps = options.get("steps_per_epoch")
        if steps is None and self.is_arrays:
            steps = math.ceil(np.shape(tf.nest.flatten(self.x)[0])[0] / (self.batch_size or 32))
        elif steps is None and isinstance(self.x, tf.data.Dataset):
            steps = int(self.x.cardinality())
        elif steps is None and isinstance(self.x, keras.utils.Sequence):
            steps = len(self.x)
        return None if steps is None or steps < 0 else steps * epochs

    def warn_of_large_batch(self) -> None:
        """Tells where arrays have fewer images than a batch was to have."""
        if not self.is_arrays or self.batch_size is None:
            return
        images = np.shape(tf.nest.flatten(self.x)[0])[0]
        if self.batch_size > images:
            logging.warning(
                "batch_size=%d, but there are %d images: each step trains on all of them. Give a batch_size "
                "of at most %d.", self.batch_size, images, images,
            )  # fmt: skip


def images_of(images, network: keras.Model) -> list:
    """What each input is given, in the network's order: in a dict by their names, a list or a tuple.

    Raises:
      ValueError: for other names, or another number of inputs.
    """
    if len(network.inputs) > 1:
        return of_inputs(images, network.input_names, "images")
    return [_single_image(images, network)]


def _single_image(images, network: keras.Model):
    """The image tensor where the network's one input is given in a list, a tuple or by its name."""
    if isinstance(images, dict):
        if set(images) != {network.input_names[0]}:
            raise ValueError(
                f"images have the names {sorted(images)}; the network has one input, "
                f"{network.input_names[0]!r}."
            )
        return images[network.input_names[0]]
    if isinstance(images, list | tuple) and len(images) == 1:
        return images[0]
    return images


def given_weights(weights, output_names: list[str]):
    """The sample weights where those of the one output are given in a list, a tuple or by its name.

    Raises:
      ValueError: for another name.
    """
    if isinstance(weights, dict):
        if set(weights) != set(output_names):
            raise ValueError(
                f"sample_weight has the names {sorted(weights)}; the network has one output, "
                f"{output_names[0]!r}: give the weights alone, or under its name."
            )
        return weights[output_names[0]]
    if isinstance(weights, list | tuple) and len(weights) == 1:
        return weights[0]
    return weights


def check_shape(shape, network: keras.Model, index: int = 0) -> None:
    """Refuses (ValueError) a batch whose known shape is not that of an input; None or unknown ones pass."""
    expected = tuple(network.inputs[index].shape[1:])
    shape = None if shape is None else tf.TensorShape(shape)
    if shape is None or shape.rank is None:
        return
    wanted = f"the network takes batches of shape {(None, *expected)}"
    one, several = ("an image", "images") if len(expected) == 3 else ("an input", "inputs")
    if len(network.inputs) > 1:
        one = several = f"input {network.input_names[index]!r}"
        several += ": arrays"
    if shape.rank == len(expected) and shape.is_compatible_with(expected):
        raise ValueError(f"{one} of shape {tuple(shape)} is no batch; {wanted}: use dataset.batch(64).")
    if expected[-1:] == (1,) and shape.is_compatible_with((None, *expected[:-1])):
        raise ValueError(f"{several} have shape {tuple(shape)}; {wanted}: give {several}[..., np.newaxis].")
    if shape.is_compatible_with((None, *expected, 1)):
        raise ValueError(f"{several} have shape {tuple(shape)}; {wanted}: give {several}[..., 0].")
    if not shape.is_compatible_with((None, *expected)):
        raise ValueError(
            f"{several} have shape {tuple(shape)}; {wanted}: resize them, or build it for their size."
        )


def _gives_batches(x) -> bool:
    return hasattr(x, "element_spec") or isinstance(x, keras.utils.Sequence | Iterator | tf.data.Dataset)


def _parts(batch) -> tuple:
    return tuple(batch) if isinstance(batch, tuple | list) else (batch,)


def _as_array(values):
    """A NumPy array of numbers that are given in lists; anything else as it is."""
    leaf = values
    while isinstance(leaf, list) and leaf:
        leaf = leaf[0]
    return np.asarray(values) if isinstance(values, list) and np.isscalar(leaf) else values


def no_numbers(part) -> str | None:
    """What an array holds in place of numbers."""
    dtype = getattr(part, "dtype", None)
    if isinstance(dtype, tf.DType):
        return "text" if dtype == tf.string else None
    kind = getattr(dtype, "kind", "f")
    return "text" if kind in "US" else "Python objects (dtype object)" if kind == "O" else None


def _head(values):
    return values[:FIRST_IMAGES]
