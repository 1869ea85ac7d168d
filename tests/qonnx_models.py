"""Files as QONNX models, run by qonnx's own executor; what the tests of export.qonnx share."""

import importlib.util

import pytest

from mmx_tf.export.qonnx import qonnx_model
from mmx_tf.export.qonnx.running import compared

_PACKAGES = ("onnx", "onnxruntime", "qonnx")
_MISSING = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
needed = pytest.mark.skipif(
    bool(_MISSING), reason=f"NO {', '.join(_MISSING).upper()}: install requirements-fpga.txt"
)
FORMS = ("quant", "thresholds")


def assert_exact(data, images, *, form="quant", tensors=None):
    """Every tensor of the file is what qonnx computes -> the `QonnxModel`.

    tensors: how many have to be compared.
    """
    made = qonnx_model(data, form=form, batch=len(next(iter(images.values()))))
    found = compared(data, made, images)
    assert not found.differing, found
    assert found.codes and found.tensors == (tensors or found.tensors)
    return made


def datatypes_of(model):
    """The annotations of a model by the name of the tensor."""
    return {
        entry.tensor_name: pair.value
        for entry in model.graph.quantization_annotation
        for pair in entry.quant_parameter_tensor_names
    }


def kinds_of(model):
    """The operators of a model."""
    return {node.op_type for node in model.graph.node}
