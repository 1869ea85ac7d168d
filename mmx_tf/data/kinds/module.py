"""`module:NAME:FUNCTION`: a function of one's own that returns two `tf.data.Dataset`s.

    def waves():                      # in my_data.py: --dataset=module:my_data:waves
        return train, evaluation      # or train, evaluation, class_names

What it returns is in `mmx_tf.data.user_function`.
"""

import importlib.util
import os
import re
import sys

from mmx_tf.data.asked import Asked
from mmx_tf.errors import DataError

WORDS = "'module:NAME:FUNCTION' (a function of your own that returns two tf.data.Datasets)"


def check(name: str, *, data_dir: str) -> None:
    """Refuses (DataError) what cannot name a module, and a module that is not there; no code is run."""
    module, _ = named(name)
    add_current_folder()
    top = module.partition(".")[0]
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise DataError(
            f"--dataset={name}: there is no module {top!r} in the folder {os.getcwd()}, nor in PYTHONPATH. "
            "Start the command in the folder of the module, or add that folder to PYTHONPATH."
        )


def opened(name: str, asked: Asked):
    """The `ArraySource` of what the function returns."""
    from mmx_tf.data import user_function

    check(name, data_dir=asked.data_dir)
    return user_function.opened(name, *named(name), asked)


def named(name: str) -> tuple[str, str]:
    """Module and function in the name of a dataset."""
    _, _, rest = name.partition(":")
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", rest) or rest.split(":")[0].endswith(
        ".py"
    ):
        raise DataError(
            f"--dataset={name} is not module:NAME:FUNCTION, with the name of a module as `import` takes it: "
            "module:my_data:waves is the function waves of my_data.py."
        )
    module, _, function = rest.partition(":")
    return module, function


def add_current_folder() -> None:
    """Lets modules of the current folder be imported, as under `python -m`; an installed command does not."""
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
