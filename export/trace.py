"""The codes of every tensor of a folded model, and how they go into a file and come out of it.

trace = Trace(folded)
trace(images)["stem"]                       # int8 codes [N, height, width, channels]
output = FileOutput(trace, data)
runner = litert.Runner(output.data)
image = ImageInput(trace, runner)
found = runner(image(images, trace(images)))  # the file on the same images, whatever its input type
codes, classes = output(found)                # what it says of them, whatever its output type
"""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from export import litert
from export.cut import expose
from export.reading import tflite_file
from layers.grid import Grid
from layers.integer_layers import Dequantize, QuantizeInput


class Trace:
    """The codes of every tensor of a folded model.

    Attributes:
      names: of the tensors.
      entry, entry_grid: name and grid of the image's codes.
      final, final_grid: those of the logits' codes.
      image_shape: of one image, (height, width, channels).
    """

    def __init__(self, folded: keras.Model):
        tensors = [layer for layer in folded.layers if hasattr(layer, "output_grid")]
        entries = [layer for layer in tensors if isinstance(layer, QuantizeInput)]
        ends = [tensor.node.layer for tensor in folded.outputs]
        if len(ends) != 1 or not isinstance(ends[0], Dequantize) or len(entries) != 1:
            raise ValueError(
                f"model {folded.name!r} was not made by mmx_tf.fold with one logits output: give "
                "mmx_tf.fold(fixed)."
            )
        self.final, self.final_grid = ends[0].input.node.layer.name, ends[0].input_grid
        self.entry, self.entry_grid = entries[0].name, entries[0].output_grid
        self.image_shape = tuple(folded.input_shape[1:])
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
            check_grid("input", *detail["quantization"], trace.entry_grid, shift=self._shift)

    def __call__(self, images, codes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Input name -> values, for float images and the codes that the trace gave for them."""
        if self._shift is None:
            return {self.name: np.asarray(images, self.dtype)}
        shifted = codes[self._trace.entry].astype(np.int16) + self._shift
        return {self.name: shifted.astype(self.dtype)}


class FileOutput:
    """The logits' codes and the class that a file gives, whatever its output type.

    Args:
      trace: of the folded model.
      data: bytes of its file.

    Attributes:
      data: the file with the codes as an output too. It has no SOFTMAX, on which LiteRT's reference kernels
        abort the process where a row's exponentials sum to 512 or more.

    Raises:
      ValueError: if the file's outputs are not made from the folded model's logits.
    """

    def __init__(self, trace: Trace, data: bytes):
        file = tflite_file.parse(data)
        names = [file.tensors[index].name for index in file.outputs]
        # How each output is made from the logits' codes; they may be an output themselves.
        makers = {trace.final: "CODES"} | {
            file.tensors[output].name: operator.kind
            for operator in file.operators
            if operator.inputs and file.tensors[operator.inputs[0]].name == trace.final
            for output in operator.outputs
        }
        made = {makers[name]: name for name in names if name in makers}
        if len(made) != len(names) or not made.keys() & {"CODES", "DEQUANTIZE", "ARG_MAX"}:
            raise ValueError(
                f"the file has outputs {names}; expected are the folded model's logits {trace.final!r}, as "
                "codes, as floats or as class and probabilities: the file was made from another model."
            )
        logits = next(tensor for tensor in file.tensors if tensor.name == trace.final)
        check_grid("output", logits.scale, logits.zero_point, trace.final_grid)
        self._codes, self._class = trace.final, made.get("ARG_MAX")
        self._scores = made.get("DEQUANTIZE", self._codes)
        self.data = expose(data, dict.fromkeys([self._codes, self._class or self._scores]))

    def __call__(self, outputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(codes [N, classes], classes [N]) of what `data` gave."""
        classes = outputs[self._class] if self._class else outputs[self._scores].argmax(-1)
        return outputs[self._codes], classes


def check_grid(what: str, scale: float | None, zero_point: int | None, grid: Grid, *, shift: int = 0) -> None:
    """Checks that a file's tensor is on a grid of the folded model.

    Args:
      what: "input" or "output".
      scale, zero_point: the file's.
      grid: the folded model's.
      shift: what the file's codes are above the folded model's, 128 for uint8.

    Raises:
      ValueError: if it is not.
    """
    if (np.float32(scale), zero_point) != (np.float32(grid.scale), grid.zero_point + shift):
        raise ValueError(
            f"the codes of the file's {what} have scale {scale} and zero point {zero_point}, those of the "
            f"folded model {grid}: the file was made from another model."
        )
