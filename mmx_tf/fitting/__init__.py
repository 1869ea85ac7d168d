"""Keras's `compile` and `fit` for our networks: the whole contract, and checks of what a notebook gives."""

from mmx_tf import startup

startup.load_tensorflow()
