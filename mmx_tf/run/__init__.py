"""A run from flags to files: the stages and their order."""

from mmx_tf import startup

startup.load_tensorflow()
