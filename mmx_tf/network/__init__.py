"""Keras networks as they come: read, checked, brought into the one form that all else works on."""

from mmx_tf import startup

startup.load_tensorflow()
