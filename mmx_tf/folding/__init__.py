"""From a fixed network to integers: batch norms folded, every tensor on its grid, then the .tflite."""

from mmx_tf import startup

startup.load_tensorflow()
