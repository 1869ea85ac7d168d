"""The codes of every tensor of a folded model, and how they go into a file.

trace = Trace(folded)
trace(images)["stem"]                       # int8 codes [N, height, width, channels]
image = ImageInput(trace, runner)
runner(image(images, trace(images)))        # the file on the same images, whatever its input type
"""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from export import litert
from layers.grid import Grid
from layers.integer_layers import Dequantize, QuantizeInput


class Trace:
    """The codes of every tensor of a folded model.

    Attributes:
      names: of the tensors.
      entry, entry_grid: name and grid of the image's codes.
      final, final_grid: those of the logits' codes.
    """

    def __init__(self, folded: keras.Model):
        tensors = [layer for layer in folded.layers if hasattr(layer, "output_grid")]
        entries = [layer for layer in tensors if isinstance(layer, QuantizeInput)]
        ends = [tensor.node.layer for tensor in folded.outputs]
        if len(ends) != 1 or not isinstance(ends[0], Dequantize) or len(entries) != 1:
            raise ValueError(f"model {folded.name!r} is not one made by mmx_tf.fold with one logits output.")
        self.final, self.final_grid = ends[0].input.node.layer.name, ends[0].input_grid
        self.entry, self.entry_grid = entries[0].name, entries[0].output_grid
        self._ordered = [layer.name for layer in tensors]
        self.names = set(self._ordered)
        exposed = keras.Model(folded.inputs, [layer.output for layer in tensors])
        self._run = tf.function(
            lambda images: [tf.cast(codes, tf.int8) for codes in exposed(images)], reduce_retracing=True
        )

    def __call__(self, images) -> dict[str, np.ndarray]:
        """Tensor name -> int8 codes [N, ...] for float images [N, height, width, channels]."""
        codes = self._run(tf.convert_to_tensor(images))
        return dict(zip(self._ordered, (tensor.numpy() for tensor in codes), strict=True))


class ImageInput:
    """What a file's one input takes: the image's codes, or the float image, in the input's own type.

    Args:
      trace: of the folded model.
      runner: of its file.

    Raises:
      ValueError: if the file has several inputs, or its input is not that of the folded model.
    """

    def __init__(self, trace: Trace, runner: litert.Runner):
        if len(runner.inputs) != 1:
            raise ValueError(f"the file has inputs {sorted(runner.inputs)}; one image is expected.")
        ((self.name, detail),) = runner.inputs.items()
        self.dtype, self._trace = detail["dtype"], trace
        self._shift = {np.uint8: 128, np.int8: 0}.get(self.dtype)
        if self._shift is not None:
            check_grid("input", detail, trace.entry_grid, shift=self._shift)

    def __call__(self, images, codes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Input name -> values, for float images and the codes that the trace gave for them."""
        if self._shift is None:
            return {self.name: np.asarray(images, self.dtype)}
        shifted = codes[self._trace.entry].astype(np.int16) + self._shift
        return {self.name: shifted.astype(self.dtype)}


def check_grid(what: str, detail: dict, grid: Grid, *, shift: int = 0) -> None:
    """Checks that a file's tensor is on a grid of the folded model.

    Args:
      what: "input" or "output".
      detail: LiteRT's description of the tensor.
      grid: the folded model's.
      shift: what the file's codes are above the folded model's, 128 for uint8.

    Raises:
      ValueError: if it is not.
    """
    scale, zero_point = detail["quantization"]
    if (np.float32(scale), zero_point - shift) != (np.float32(grid.scale), grid.zero_point):
        raise ValueError(
            f"the file's {what} is {np.dtype(detail['dtype']).name} with scale {scale} and zero point "
            f"{zero_point}, the folded model has {grid}: the file was made from another model, or with "
            "float32 output."
        )
