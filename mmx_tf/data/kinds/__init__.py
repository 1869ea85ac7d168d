"""What --dataset may name: a module for each kind of dataset, found by the name.

`digits` is opened by `kinds/digits.py`, `folder:PATH` by `kinds/folder.py`, and so on; any other name is one
of TFDS. A module has WORDS (how such a name is written), `check(name, data_dir=)`, which refuses names that
no dataset can have here, and `opened(name, asked)`, which gives its `mmx_tf.data.source.ImageSource` or
`mmx_tf.data.source.ArraySource`. It loads TensorFlow in `opened` alone, so that a wrong name is refused at
once.

    >>> check("digits", data_dir="")
    >>> check("cifar10", data_dir="/none")
    Traceback (most recent call last):
        ...
    mmx_tf.errors.DataError: The dataset cifar10 is not prepared in /none (--data_dir), ...
"""

import importlib
import pkgutil
from types import ModuleType

DEFAULT = "tfds"


def names() -> list[str]:
    """The kinds, the default one last."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [name for name in found if name != DEFAULT] + [DEFAULT]


def allowed() -> str:
    """What a dataset's name may be."""
    *first, last = [importlib.import_module(f"{__name__}.{name}").WORDS for name in names()]
    return f"--dataset is {', '.join(first)} or {last}"


def unknown(name: str) -> str:
    """Says that there is no such dataset, and what a name may be."""
    return f"There is no dataset {name!r}; {allowed()}"


def of(name: str) -> ModuleType:
    """The module that opens a dataset of this name."""
    kind = name.partition(":")[0]
    return importlib.import_module(f"{__name__}.{kind if kind in names() else DEFAULT}")


def check(name: str, *, data_dir: str) -> None:
    """Refuses (DataError) a name that no dataset can have here.

    What passes may still be unusable: the files are not opened.

    Args:
      name: of --dataset.
      data_dir: folder of prepared TFDS datasets; empty takes TFDS's own.
    """
    of(name).check(name, data_dir=data_dir)
