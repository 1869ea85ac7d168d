"""A run from flags to files: the stages and their order, and the three phases of training."""

from mmx_tf import startup

startup.load_tensorflow()
