"""The same random state for every test, however many of them share a network."""

import sys
import types
from unittest import mock


def same_random_state() -> None:
    """Gives Keras, TensorFlow, numpy and Python the random state of a process that has drawn nothing yet.

    Setting TensorFlow's seed also clears its caches, for the sake of random operations whose state is in
    there. Steps that are traced already are then optimized anew, a quarter of a second each: so the caches
    are cleared only where such an operation has been made.
    """
    if keras := sys.modules.get("tf_keras"):
        from tensorflow.python import pywrap_tfe

        if _STATEFUL or not _WATCHED:
            _watch()
            keras.utils.set_random_seed(0)
        else:
            with mock.patch.object(pywrap_tfe, "TFE_ContextClearCaches"):
                keras.utils.set_random_seed(0)


def forget() -> None:
    """Clears the caches behind a module: what it has traced is gone, and all random states with it."""
    if keras := sys.modules.get("tf_keras"):
        _watch()
        keras.utils.set_random_seed(0)
        _STATEFUL.clear()


# Holds something from the first random operation with a state on: as part of a traced step it may draw at
# any time.
_STATEFUL = []
_WATCHED = []


def _watch() -> None:
    """Notes from now on that a random operation with a state is made: each asks TensorFlow for its seeds."""
    if _WATCHED:
        return
    from tensorflow.python.data.util import random_seed as of_datasets
    from tensorflow.python.framework import random_seed

    own = random_seed.get_seed

    def get_seed(op_seed):
        if not _of_a_dataset():
            _STATEFUL.append(True)
        return own(op_seed)

    random_seed.get_seed = get_seed
    of_datasets.random_seed = types.SimpleNamespace(get_seed=own)
    _WATCHED.append(True)


def _of_a_dataset() -> bool:
    """Whether a function of a dataset is traced, as Keras's `fit` shuffles: its iterators have its states."""
    import tensorflow as tf

    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:
        if getattr(graph, "name", "").startswith("Dataset_"):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False
