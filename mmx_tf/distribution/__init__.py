"""Runs on several devices, processes and machines."""

from mmx_tf import startup

startup.load_tensorflow()
