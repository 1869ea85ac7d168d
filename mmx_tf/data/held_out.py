"""Training examples that are held out for validation: chosen by a seed, and never trained on.

    source = with_validation(source, 5000, seed=0)      # source.validation has 5000, source.train the others

Which ones they are depends on the dataset, their number and the seed alone, so all phases of a run and every
resumption have the same. The evaluation split is left alone.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from mmx_tf.data.chosen import chosen_rows, rows_told
from mmx_tf.data.source import Source, Split
from mmx_tf.errors import DataError


def with_validation(source: Source, count: int, *, seed: int) -> Source:
    """The source with `count` of its training examples as its validation split; for 0 as it is.

    Raises:
      DataError: where no example would be left for training, or examples have no fixed order.
    """
    if not count:
        return source
    if source.validation:
        raise DataError(
            f"--validation_images={count}: {source.name} has {source.validation.count} images to judge "
            "epochs on already, in a folder of their own. Leave --validation_images out, or move them "
            "into train."
        )
    total = source.train.count
    if not 0 < count < total:
        raise DataError(
            f"--validation_images={count}: {source.name} has {total} training examples, of which 1 to "
            f"{total - 1} can be held out; 0 holds out none."
        )
    if not source.train.in_order:
        raise DataError(
            f"--validation_images={count}: the training examples of {source.name} change, or change their "
            "order, each time they are read, so none of them can be held out of training. Let the function "
            "return them in a fixed order; training shuffles them."
        )
    train, validation = (source.train.parted or _parted_stream(source.train))(count, seed)
    return dataclasses.replace(source, train=train, validation=validation)


def _parted_stream(split: Split):
    """`Split.parted` of examples that can only be read one after the other."""

    def parted(count: int, seed: int) -> tuple[Split, Split]:
        parts = chosen_rows(split.count, count, seed)
        held = np.zeros(split.count, bool)
        held[parts[1]] = True

        def part(rows, wanted):
            def stream(shuffle_seed: int | None) -> tf.data.Dataset:
                mask = tf.constant(held == wanted)
                numbered = split.stream(shuffle_seed).enumerate()
                kept = numbered.filter(lambda row, _: tf.gather(mask, row))
                return kept.map(lambda _, example: example)

            return dataclasses.replace(
                split, count=len(rows), stream=stream, parted=None, rows=rows_told(rows)
            )

        return part(parts[0], False), part(parts[1], True)

    return parted
