"""The name of a TFDS dataset that was prepared on this machine; it needs no prefix."""

import difflib
import os
import pathlib
import re

from mmx_tf.data.asked import Asked
from mmx_tf.data.tfds_names import folder_meant, is_tfds_name, not_prepared
from mmx_tf.errors import DataError

TFDS_DATA_DIR = "TFDS_DATA_DIR"
WORDS = "the name of a TFDS image dataset such as cifar10 or imagenet2012"


def check(name: str, *, data_dir: str) -> None:
    """Refuses (DataError) a dataset that is not prepared here; its files are not opened."""
    from mmx_tf.data import kinds

    if not is_tfds_name(name):
        raise DataError(f"{folder_meant(name)}{kinds.unknown(name)}.")
    root = data_dir or os.environ.get(TFDS_DATA_DIR) or "~/tensorflow_datasets"
    if "://" in root:
        return  # Storage that TFDS asks a server for.
    here = pathlib.Path(root).expanduser()
    if (here / re.split("[/:]", name)[0]).is_dir():
        return
    prepared = sorted(path.name for path in here.iterdir() if path.is_dir()) if here.is_dir() else []
    close = difflib.get_close_matches(name, prepared, n=3)
    advice = f" Did you mean {' or '.join(close)}?" if close else ""
    raise DataError(f"{folder_meant(name)}{not_prepared(name, data_dir)}{advice} {kinds.allowed()}.")


def opened(name: str, asked: Asked):
    """The `Source` of the dataset; see `mmx_tf.data.prepared_tfds`."""
    from mmx_tf.data.prepared_tfds import from_tfds

    return from_tfds(name, data_dir=asked.data_dir)
