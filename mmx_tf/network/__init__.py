"""Keras networks as they come, and brought into the one form that all else works on."""

from mmx_tf import startup

startup.load_tensorflow()
