"""Datasets by name.

>>> load("digits").image_shape, load("npz:keywords.npz").image_shape
((32, 32, 1), (49, 10, 1))
"""

from dataclasses import replace

from mmx_tf.data import kinds
from mmx_tf.data.arrays import ArrayData
from mmx_tf.data.asked import Asked
from mmx_tf.data.dataset import ImageData
from mmx_tf.data.examples import Examples
from mmx_tf.data.held_out import with_validation
from mmx_tf.data.images import PIXEL_SCALING
from mmx_tf.data.source import ArraySource
from mmx_tf.errors import DataError

OF_RECIPES = (
    "data_dir", "image_size", "pixel_scaling", "augmentation", "task", "num_classes", "validation_images",
    "seed",
)  # fmt: skip


def load(
    name: str,
    *,
    data_dir: str = "",
    image_size: int = 0,
    pixel_scaling: tuple[float, float] | None = None,
    augmentation: str = "",
    task: str = "",
    num_classes: int = 0,
    validation_images: int = 0,
    seed: int = 0,
) -> Examples:
    """Open a dataset; nothing is downloaded and, apart from a folder's check, no image is decoded yet.

    Args:
        name: 'digits', the name of a TFDS image dataset, 'folder:PATH', 'npz:FILE.npz' or
        'module:NAME:FUNCTION'
            (see `mmx_tf.data.kinds`).
        data_dir: the folder of prepared TFDS datasets; empty takes TFDS's own default.
        image_size: height and width in pixels; 0 takes the dataset's natural size. Arrays have their own
            shape.
        pixel_scaling: (scale, offset): the network is given pixel * scale + offset. None takes 1 / 127.5 and
            -1 for images and uint8 arrays; other numbers are given as they are.
        augmentation: one of `choices.AUGMENTATIONS`; "" takes the dataset's own.
        task, num_classes: of arrays, whose numbers may be classes or not; "" and 0 where the labels say it.
        validation_images: training examples that are held out for validation (`mmx_tf.data.held_out`).
        seed: set before a function of the user's is called; chooses the examples that are held out.

    Raises:
        DataError: unknown or missing dataset (with the command that prepares it), unusable examples or
        labels, as many validation images as there are for training.
    """
    if not isinstance(name, str):
        raise DataError(f"dataset={name!r} is no text; {kinds.allowed()}.")
    asked = Asked(
        data_dir=data_dir,
        image_size=image_size,
        pixel_scaling=pixel_scaling,
        augmentation=augmentation,
        task=task,
        num_classes=num_classes,
        seed=seed,
    )
    try:
        source = kinds.of(name).opened(name, asked)
    except (OSError, MemoryError) as error:
        where = f" in --data_dir={data_dir}" if data_dir else ""
        raise DataError(f"--dataset={name}{where} cannot be read: {error or 'too little memory'}.") from error
    source = with_validation(source, validation_images, seed=seed)
    if isinstance(source, ArraySource):
        default = PIXEL_SCALING if source.pixels else None
        data = ArrayData(source=source, pixel_scaling=asked.pixel_scaling or default)
    else:
        source = replace(source, **asked.augmented(moved=True, mirrored=source.mirrored))
        data = ImageData(
            source=source,
            image_size=image_size or source.natural_size,
            pixel_scaling=asked.pixel_scaling or PIXEL_SCALING,
        )
    data.check_labels()
    return data


def of_recipe(recipe) -> Examples:
    """The dataset that a `mmx_tf.recipe.recipe.Recipe` names.

    Raises:
        DataError: as `load`.
    """
    options = {name: getattr(recipe, name) for name in OF_RECIPES}
    return load(recipe.dataset, **options | {"pixel_scaling": recipe.pixel_scaling or None})
