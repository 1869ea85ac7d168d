"""The folder of a run: its files, its lock, its checkpoints, and the fingerprints of what it was given.

TensorFlow is loaded with the two modules that need it: a folder that cannot be used is refused without it.
"""

import importlib

from mmx_tf import startup

_WITH_TENSORFLOW = ("checkpoints", "workdir")


def __getattr__(name: str):
    if name not in _WITH_TENSORFLOW:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    startup.load_tensorflow()
    return importlib.import_module(f"{__name__}.{name}")
