"""The written model under qonnx's own executor, against the file: every code of every tensor.

found = compared(data, {"image": pixels})           # pixels: uint8 [N, H, W, C]
found.codes, found.differing                        # 4_015_764, {}
bops_of(made.model)                                 # by qonnx's inference_cost
"""

import warnings
from dataclasses import dataclass

import numpy as np

from mmx_tf.export import reference
from mmx_tf.export.c_source.unpacked_graph import unpacked_graph
from mmx_tf.export.qonnx.model import QonnxModel
from mmx_tf.export.qonnx.packages import imported
from mmx_tf.export.qonnx.stored import from_onnx, to_onnx


@dataclass(frozen=True)
class Comparison:
    """A model against its file.

    Attributes:
      codes: that were compared.
      tensors: that they are from.
      differing: how many differ, by the name of the tensor; none of the others does.
    """

    codes: int
    tensors: int
    differing: dict[str, int]


def tensors_of(made: QonnxModel, images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What qonnx's executor computes: the file's tensors, as the file has them.

    Args:
      made: of `qonnx_model`.
      images: codes or pixels [N, ...] by the names of the file's inputs, N a multiple of the model's batch.
    """
    wrapped = imported("qonnx.core.modelwrapper").ModelWrapper(made.model)
    execute = imported("qonnx.core.onnx_exec").execute_onnx
    batch = made.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    count = len(next(iter(images.values())))
    parts = []
    for start in range(0, count, batch):
        inputs = {
            made.names[name]: to_onnx(np.asarray(codes[start : start + batch], np.float32))
            for name, codes in images.items()
        }
        # Numbers that do not fit into their bits are told in warnings, and would be wrong.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = execute(wrapped, inputs, return_full_exec_context=True)
        parts.append({name: _codes(made, name, found[own]) for name, own in made.names.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def compared(data: bytes, made: QonnxModel, images: dict[str, np.ndarray]) -> Comparison:
    """Codes and indices of classes of qonnx's executor against the reference interpreter.

    Args:
      data: the .tflite.
      made, images: as of `tensors_of`.
    """
    expected = reference.run(unpacked_graph(data), images)
    found = tensors_of(made, images)
    differing = {
        name: int(np.count_nonzero(codes != expected[name].astype(np.int64))) for name, codes in found.items()
    }
    return Comparison(
        sum(codes.size for codes in found.values()),
        len(found),
        {name: number for name, number in differing.items() if number},
    )


def bops_of(model) -> int:
    """Bit operations on the images of a run by qonnx's `inference_cost`, zero weights counted like others."""
    wrapper = imported("qonnx.core.modelwrapper").ModelWrapper
    cost = imported("qonnx.util.inference_cost").inference_cost
    return int(cost(wrapper(model), discount_sparsity=False)["total_cost"]["total_bops"])


def _codes(made, name, values):
    values = from_onnx(np.asarray(values))
    stored = made.tensors.get(name)
    return values.astype(np.int64) + (0 if stored is None else stored.offset)
