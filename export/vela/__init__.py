"""What a .tflite takes on an Arm Ethos-U NPU, as Arm's compiler Vela estimates it.

    found = vela.estimate(data, accelerator="ethos-u55-128")        # data: bytes of a .tflite
    found.latency_seconds, found.off_chip_flash_bytes, found.cpu_operators

    python -m export.vela model.tflite int8.tflite --accelerator=ethos-u55-128

Vela is the extra `ethos-u` (`pip install mmx_tf[ethos-u]`). Cycles are its estimates: no NPU is run. No
TensorFlow is imported here.
"""

from mmx_tf.export.vela.compiling import Compiled, compile_file, estimate
from mmx_tf.export.vela.configurations import ACCELERATORS, MissingVelaError, VelaError
from mmx_tf.export.vela.estimates import CpuOperator, Estimate, OperatorCycles

__all__ = [
    "ACCELERATORS",
    "Compiled",
    "CpuOperator",
    "Estimate",
    "MissingVelaError",
    "OperatorCycles",
    "VelaError",
    "compile_file",
    "estimate",
]
