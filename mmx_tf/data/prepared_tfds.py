"""Datasets of TFDS that were prepared on this machine; nothing is ever downloaded."""

import dataclasses
import difflib
import math
import os

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf import json_format

from mmx_tf.data import kinds
from mmx_tf.data.chosen import chosen_range
from mmx_tf.data.labels import Labels
from mmx_tf.data.source import LARGE_IMAGE_SIZE, SHUFFLE_BUFFER, ImageSource, Split
from mmx_tf.data.tfds_names import folder_meant, is_tfds_name, not_prepared
from mmx_tf.errors import DataError

# Parts of TFDS names whose images are writing, which a mirror turns into something else.
WRITING = ("mnist", "digits", "svhn", "omniglot", "letters")


def from_tfds(name: str, *, data_dir: str) -> ImageSource:
    """A prepared TFDS dataset of images with one label each: a class, a number, or a vector of numbers.

    Image and label are its supervised keys, else the features "image" and "label".
    Trains on the split `train`. Evaluates on `validation`, else on `test`; without either, the last tenth of
    `train` is kept apart for evaluation.

    Raises:
        DataError: no dataset of this name, not prepared under `data_dir`, or not a labelled image dataset.
    """
    builder = _builder(name, data_dir)
    features, splits = builder.info.features, builder.info.splits
    named = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    keys = builder.info.supervised_keys
    if not (isinstance(keys, tuple) and len(keys) == 2 and all(key in named for key in keys)):
        keys = ("image", "label")
    image, label = (named.get(key) for key in keys)
    if isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.Image):
        raise DataError(
            f"The labels of the TFDS dataset {name} ({keys[1]!r}) are images, such as masks: they would have "
            "to be cropped and mirrored with their images, which this command does not do. Search, train and "
            "verify such a network in a notebook, with batches of your own (docs/guides/notebook.md)."
        )
    classes = isinstance(label, tfds.features.ClassLabel)
    if not isinstance(image, tfds.features.Image) or not (classes or _is_vector(label)):
        raise DataError(
            f"The TFDS dataset {name} has no features 'image' and 'label' (or supervised keys) that are an "
            f"image and its class, a number or a vector of numbers: it has {_one_line(features)}. Choose "
            "another --dataset, or write the images to folders and use folder:PATH."
        )
    channels = image.shape[-1]
    if channels not in (1, 3) or image.np_dtype != np.uint8:
        raise DataError(
            f"The images of the TFDS dataset {name} have shape {image.shape} and type "
            f"{np.dtype(image.np_dtype).name}; only grey (1 channel) or colour (3 channels) uint8 images can "
            "be used."
        )
    if "train" not in splits:
        raise DataError(f"The TFDS dataset {name} has no split 'train', only {', '.join(splits) or 'none'}.")
    evaluation = next((split for split in ("validation", "test") if split in splits), None)
    halves = ("train", evaluation) if evaluation else ("train[:90%]", "train[90%:]")
    size = min(image.shape[:2]) if None not in image.shape else LARGE_IMAGE_SIZE
    return ImageSource(
        name=name,
        version=builder.info.full_name,
        class_names=tuple(label.names or map(str, range(label.num_classes))) if classes else (),
        label_shape=() if classes else (math.prod(label.shape),),
        natural_size=size,
        channels=channels,
        mirrored=not any(part in name for part in WRITING),
        train=_tfds_split(builder, halves[0], keys),
        evaluation=_tfds_split(builder, halves[1], keys),
    )


def _builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """The builder of a prepared dataset; no server is asked: names with a foreign namespace are refused."""
    if not is_tfds_name(name):
        raise DataError(f"{folder_meant(name)}{kinds.unknown(name)}.")
    try:
        builder = tfds.builder(name, data_dir=data_dir or None)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(name, known, n=3)
        advice = f" (did you mean {' or '.join(close)}?)" if close else ""
        raise DataError(f"{folder_meant(name)}{kinds.unknown(name)}{advice}.") from error
    # A configuration or version that TFDS does not know, or a description that it cannot read.
    except (ValueError, AssertionError, json_format.ParseError) as error:
        raise DataError(f"The TFDS dataset {name!r} cannot be loaded: {_one_line(error)}") from error
    if not builder.is_prepared() or not builder.info.splits:
        raise DataError(folder_meant(name) + not_prepared(name, data_dir))
    return builder


def _is_vector(label) -> bool:
    """Whether a feature is a number or a vector of a fixed length."""
    if not isinstance(label, tfds.features.Tensor) or isinstance(label, tfds.features.ClassLabel):
        return False
    return np.dtype(label.np_dtype).kind in "biuf" and len(label.shape) <= 1 and None not in label.shape


def _tfds_split(builder: tfds.core.DatasetBuilder, split: str, keys: tuple[str, str]) -> Split:
    image, label = keys
    feature = builder.info.features[label]
    classes = isinstance(feature, tfds.features.ClassLabel)
    labels = Labels(shape=() if classes else (math.prod(feature.shape),))

    def stream(shuffle_seed: int | None) -> tf.data.Dataset:
        count = builder.info.splits[split].num_examples
        dataset = builder.as_dataset(
            split=split,
            shuffle_files=shuffle_seed is not None,
            decoders={image: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(
                shuffle_seed=shuffle_seed, try_autocache=False, add_tfds_id=False, skip_prefetch=True
            ),
        )
        dataset = dataset.map(
            lambda example: (example[image], labels.read(example[label])),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        if shuffle_seed is None:
            return dataset
        return dataset.shuffle(min(count, SHUFFLE_BUFFER), seed=shuffle_seed)

    def files() -> list[tuple[str, int]]:
        paths = builder.info.splits[split].filepaths
        return [(path.name, tf.io.gfile.stat(os.fspath(path)).length) for path in paths]

    def parted(count: int, seed: int) -> tuple[Split, Split]:
        # A range: TFDS mixes examples when it prepares them, and reads ranges without what is between.
        first, last = chosen_range(builder.info.splits[split].num_examples, count, seed)
        name = split.partition("[")[0]
        end = builder.info.splits[split].num_examples
        ranges = [f"{name}[{a}:{b}]" for a, b in ((0, first), (last, end)) if a < b]
        parts = "+".join(ranges), f"{name}[{first}:{last}]"
        return tuple(dataclasses.replace(_tfds_split(builder, one, keys), rows=one) for one in parts)

    return Split(
        count=builder.info.splits[split].num_examples,
        stream=stream,
        files=files,
        # Only a split that begins at the first row is parted, as the two that can be trained on do.
        parted=None if "+" in split else parted,
    )


def _one_line(thing: object) -> str:
    """The text of an error or a feature description as part of a paragraph."""
    return " ".join(str(thing).split())[:300]
