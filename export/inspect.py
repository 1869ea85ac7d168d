"""What is in a .tflite: its layers with bits, bytes, MACs, BOPs and delegation, and the totals.

    python -m export.inspect model.tflite               # a table
    python -m export.inspect model.tflite --json        # the same as JSON

    from export import inspect
    inspect.layers(data)[3].bops                        # data: bytes of a .tflite
    inspect.summary(data).file_bytes.weights

Imports no TensorFlow. Exit code 2: the file is no .tflite, or a damaged one.
"""

import importlib
import os
import sys

if not __package__:
    # A script of this folder was started by its path, and Python put the folder in front of all others: there
    # this module is found where the standard library's `inspect` is meant. The folder above takes its place.
    _folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_folder) if os.path.abspath(p) == _folder else p for p in sys.path]

if __name__ == "inspect":
    del sys.modules["inspect"]
    importlib.import_module("inspect")
else:
    from mmx_tf.export.reading.file_bytes import FileBytes
    from mmx_tf.export.reading.layers import LayerInfo
    from mmx_tf.export.reading.summary import (
        Endpoint,
        FileSummary,
        OperatorCount,
        SignatureInfo,
        layers,
        summary,
    )
    from mmx_tf.export.reading.text import main, text

    __all__ = [
        "Endpoint",
        "FileBytes",
        "FileSummary",
        "LayerInfo",
        "OperatorCount",
        "SignatureInfo",
        "layers",
        "main",
        "summary",
        "text",
    ]

if __name__ == "__main__":
    sys.exit(main())
