"""What can be said of a TFDS dataset by its name, without TFDS."""

import os
import pathlib
import re


def is_tfds_name(name: str) -> bool:
    """Whether TFDS may have a dataset of this name without asking a server: no foreign namespace."""
    return bool(re.fullmatch(r"[a-z]\w*(/[\w.+-]+)*(:[\d.*]+)?", name))


def folder_meant(name: str) -> str:
    """Asks whether a folder of this name was meant, in front of what else is said; '' where there is none."""
    if not name or not pathlib.Path(name).expanduser().is_dir():
        return ""
    return f"{name!r} is a folder here: did you mean --dataset=folder:{name}? "


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
