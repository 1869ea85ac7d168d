"""What is asked of a dataset beside its name: flags of the command line, arguments of `mmx_tf.data.load`."""

import dataclasses
import math
import numbers

from mmx_tf.choices import AUGMENTATIONS, TASKS
from mmx_tf.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """Options of a dataset, checked.

    Attributes:
      data_dir: folder of prepared TFDS datasets; empty takes TFDS's own default.
      image_size: height and width of images in pixels; 0 takes the dataset's natural size.
      pixel_scaling: (scale, offset); the network is given pixel * scale + offset, with pixels 0..255. None
        takes 1 / 127.5 and -1 for uint8 pixels, and nothing for other numbers, which are given as they are.
      augmentation: one of `choices.AUGMENTATIONS`, "" for the dataset's own.
      task: one of `choices.TASKS`, where it is told; "" while it is not.
      num_classes: where the labels do not say it; 0 for as many as there are.
      seed: set before a function of the user's is called.

    Raises:
      DataError: for a value that is not one of these.
    """

    data_dir: str = ""
    image_size: int = 0
    pixel_scaling: tuple[float, float] | None = None
    augmentation: str = ""
    task: str = ""
    num_classes: int = 0
    seed: int = 0

    def __post_init__(self):
        """Checks every value."""
        for name, size in (("image_size", self.image_size), ("num_classes", self.num_classes)):
            if not isinstance(size, numbers.Integral) or size < 0:
                what = (
                    "a size; give pixels, or 0 for the natural size" if name == "image_size" else "a number"
                )
                raise DataError(f"--{name}={size} is not {what}.")
        if self.augmentation not in ("", *AUGMENTATIONS):
            raise DataError(
                f"augmentation={self.augmentation!r}: empty, or one of {', '.join(AUGMENTATIONS)}."
            )
        if self.task not in ("", *TASKS):
            raise DataError(f"task={self.task!r}: one of {', '.join(TASKS)}.")
        if self.pixel_scaling is not None and not _is_scaling(self.pixel_scaling):
            raise DataError(
                f"pixel_scaling={self.pixel_scaling!r}: (scale, offset), with a scale above 0, or None."
            )

    def augmented(self, *, moved: bool, mirrored: bool) -> dict[str, bool]:
        """`moved` and `mirrored` of a source whose own they are."""
        if self.augmentation:
            moved, mirrored = self.augmentation != "none", self.augmentation == "crop_flip"
        return {"moved": moved, "mirrored": mirrored}


def _is_scaling(scaling) -> bool:
    try:
        scale, offset = map(float, scaling)
    except (TypeError, ValueError):
        return False
    return 0 < scale < math.inf and math.isfinite(offset)
