"""A .tflite as QONNX: ONNX with each layer's bit-widths, for FPGA flows that build the widths.

    made = mmx_tf.export.qonnx.qonnx_model(data)        # data: bytes of a .tflite
    made.model                                          # an onnx.ModelProto

    python -m export.qonnx model.tflite --out=model.onnx

The graph computes exactly what the file computes under XNNPACK. It needs the extra `fpga`. No TensorFlow is
imported here.
"""

from mmx_tf.export.qonnx.errors import MissingPackageError, UnsupportedError
from mmx_tf.export.qonnx.model import QonnxModel, qonnx_model

__all__ = ["MissingPackageError", "QonnxModel", "UnsupportedError", "qonnx_model"]
