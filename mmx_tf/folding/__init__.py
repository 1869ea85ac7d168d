"""From a fixed network to integers: batch norms folded, every tensor on its grid, then the .tflite."""

from mmx_tf import startup

startup.load_tensorflow()

# They register which layers they fold (`mmx_tf.folding.registry`).
from mmx_tf.folding import activation_handlers, handlers, image_handlers, weighted_layers  # noqa: F401
