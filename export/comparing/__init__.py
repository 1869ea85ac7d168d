"""Comparing a folded network with its file, code by code."""

from mmx_tf import startup

startup.load_tensorflow()
