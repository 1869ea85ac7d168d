"""A .tflite as C99 for microcontrollers, with activations in 2-, 4- and 8-bit slots between operators.

    made = mmx_tf.c_source(data, name="net")            # data: bytes of a .tflite
    made.files["net.c"], made.ram_bytes

    python -m export.c_source model.tflite --out=firmware/net

The program computes exactly what the file computes under XNNPACK. It allocates nothing and needs no library.
No TensorFlow is imported here.
"""

from mmx_tf.export.c_source.errors import BudgetError, UnsupportedError
from mmx_tf.export.c_source.writer import CSource, c_source

__all__ = ["BudgetError", "CSource", "UnsupportedError", "c_source"]
