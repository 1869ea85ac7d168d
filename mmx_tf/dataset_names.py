"""What --dataset may name, told before anything that reads datasets is loaded.

>>> check("digits", data_dir="")
>>> check("cifar10", data_dir="/none")        # DataError: The dataset cifar10 is not prepared in /none ...
"""

import difflib
import os
import pathlib
import re

from mmx_tf.errors import DataError

FOLDER = "folder:"
TFDS_DATA_DIR = "TFDS_DATA_DIR"
ALLOWED = (
    "--dataset is 'digits', 'folder:PATH' (one subfolder of images per class) or the name of a TFDS image "
    "dataset such as cifar10 or imagenet2012"
)


def check(name: str, *, data_dir: str) -> None:
    """Refuses (DataError) a name that no dataset can have here.

    What passes may still be unusable: the files are not opened.

    Args:
      name: of --dataset.
      data_dir: folder of prepared TFDS datasets; empty takes TFDS's own.
    """
    if name == "digits":
        return
    if name.startswith(FOLDER):
        path = name.removeprefix(FOLDER)
        if not os.path.isdir(pathlib.Path(path).expanduser()):
            raise DataError(no_folder(path))
        return
    if not is_tfds_name(name):
        raise DataError(f"{unknown(name)}.")
    root = data_dir or os.environ.get(TFDS_DATA_DIR) or "~/tensorflow_datasets"
    if "://" in root:
        return  # Storage that TFDS asks a server for.
    here = pathlib.Path(root).expanduser()
    if (here / re.split("[/:]", name)[0]).is_dir():
        return
    prepared = sorted(path.name for path in here.iterdir() if path.is_dir()) if here.is_dir() else []
    close = difflib.get_close_matches(name, prepared, n=3)
    advice = f" Did you mean {' or '.join(close)}?" if close else ""
    raise DataError(f"{not_prepared(name, data_dir)}{advice} {ALLOWED}.")


def is_tfds_name(name: str) -> bool:
    """Whether TFDS may have a dataset of this name without asking a server: no foreign namespace."""
    return bool(re.fullmatch(r"[a-z]\w*(/[\w.+-]+)*(:[\d.*]+)?", name))


def unknown(name: str) -> str:
    """Says that there is no such dataset, and what a name may be."""
    return f"There is no dataset {name!r}; {ALLOWED}"


def no_folder(path: str) -> str:
    """Says that a folder of images is not there."""
    return (
        f"--dataset={FOLDER}{path} names no folder that can be read. It must hold one subfolder of images "
        "per class, or 'train' and 'validation' with such subfolders in each."
    )


def not_prepared(name: str, data_dir: str) -> str:
    """Says that a dataset is not prepared, and the command that does it."""
    where = f", data_dir={os.fspath(data_dir)!r}" if data_dir else ""
    manual = (
        " ImageNet must be fetched by hand first: log in at image-net.org, download "
        "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, and put both into "
        f"{os.path.join(data_dir or '~/tensorflow_datasets', '')}downloads/manual."
        if name.startswith("imagenet")
        else ""
    )
    return (
        f"The dataset {name} is not prepared in {data_dir or 'the default folder of TFDS'} (--data_dir), "
        "and nothing is downloaded without being asked for. Prepare it with: "
        'python -c "import tensorflow_datasets as tfds; '
        f'tfds.load({name!r}{where}, download=True)".{manual}'
    )
