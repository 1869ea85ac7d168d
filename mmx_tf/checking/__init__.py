"""What mmx_tf can do with a network, told before any training and without data."""

from mmx_tf import startup

startup.load_tensorflow()
