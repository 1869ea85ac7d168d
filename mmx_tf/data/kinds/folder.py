"""`folder:PATH`: a folder of one's own images, one subfolder per class."""

import os
import pathlib

from mmx_tf.data.asked import Asked
from mmx_tf.errors import DataError

WORDS = "'folder:PATH' (one subfolder of images per class)"


def check(name: str, *, data_dir: str) -> None:
    """Refuses (DataError) a folder that is not there."""
    path = path_of(name)
    if not os.path.isdir(pathlib.Path(path).expanduser()):
        raise DataError(
            f"--dataset=folder:{path} names no folder that can be read. It must hold one subfolder of images "
            "per class, or train, val and test with such subfolders in each."
        )


def opened(name: str, asked: Asked):
    """The `Source` of the folder; see `mmx_tf.data.class_folders`."""
    from mmx_tf.data.class_folders import from_folder

    check(name, data_dir=asked.data_dir)
    return from_folder(path_of(name))


def path_of(name: str) -> str:
    """The path in the name of a dataset."""
    return name.partition(":")[2]
