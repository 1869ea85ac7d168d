"""Writing the .tflite: flatbuffer, operators, and the types at its ends."""

from mmx_tf import startup

startup.load_tensorflow()
