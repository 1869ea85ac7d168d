"""The folder of a run: its files, its lock, its checkpoints, and the fingerprints of what it was given."""

from mmx_tf import startup

startup.load_tensorflow()
