"""The codes of every tensor of a folded model, and how they go into a file and come out of it.

trace = Trace(folded)
trace(images)["stem"]                       # int8 codes [N, height, width, channels]
output = FileOutput(trace, data)
runner = litert.Runner(output.data)
image = ImageInput(trace, output.file)
codes = trace(images)
found = output(runner(image(images, codes)))  # the file's answer on the same images, whatever its types
found.logits, found.named                     # and output.folded(codes) is the folded model's
"""

import dataclasses

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mmx_tf.export.comparing.cut import expose
from mmx_tf.export.comparing.heads import Head
from mmx_tf.export.reading import tflite_file
from mmx_tf.export.reading.constants import numpy_type
from mmx_tf.export.reading.contents import Tensor, TfliteFile
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.layers import Dequantize, QuantizeInput
from mmx_tf.layers.integer.shapes import IntegerReshape
from mmx_tf.layers.quantizers.gates import IntegerLogistic
from mmx_tf.layers.quantizers.pixels import QuantizePixels, told_outside


class Trace:
    """The codes of every tensor of a folded model.

    Attributes:
      names: of the tensors.
      entry, entry_grid: name and grid of the image's codes.
      final, final_grid: those of the outputs' codes.
      logits, logits_grid: those of the logits' codes. A network that ends with a sigmoid has probabilities as
        outputs, and the sigmoid's inputs are the logits; for all others both are the same.
      head: what the outputs stand for, as far as the model knows.
      image_shape: of one image, (height, width, channels), or one signal or vector.
    """

    def __init__(self, folded: keras.Model):
        if not getattr(folded, "outputs", None):
            raise ValueError(
                f"{getattr(folded, 'name', folded)!r} ({type(folded).__name__}) was not made by mmx_tf.fold: "
                "give mmx_tf.fold(fixed)."
            )
        tensors = [layer for layer in folded.layers if hasattr(layer, "output_grid")]
        entries = [layer for layer in tensors if isinstance(layer, QuantizeInput)]
        ends = [tensor.node.layer for tensor in folded.outputs]
        if len(ends) != 1 or not isinstance(ends[0], Dequantize) or len(entries) != 1:
            raise ValueError(
                f"model {folded.name!r} was not made by mmx_tf.fold with one logits output: give "
                "mmx_tf.fold(fixed)."
            )
        self.final, self.final_grid = ends[0].input.node.layer.name, ends[0].input_grid
        self.logits, self.logits_grid = self.final, self.final_grid
        logistic = logistic_of(ends[0])
        if logistic is not None:
            self.logits, self.logits_grid = logistic.input.node.layer.name, logistic.input_grid
        self.head = head_of(folded)
        self.entry, self.entry_grid = entries[0].name, entries[0].output_grid
        # Behind a rescaling its scale is not that of the images.
        takes_images = isinstance(entries[0], QuantizePixels) and entries[0].input is folded.inputs[0]
        self._pixels = entries[0] if takes_images else None
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

    def told_outside(self, images: np.ndarray) -> str | None:
        """A sentence about float images of which much is outside of the pixels that the model takes."""
        if self._pixels is None:
            return None
        return told_outside(images, scale=self._pixels.scale, offset=self._pixels.offset)


def logistic_of(dequantize: Dequantize) -> IntegerLogistic | None:
    """The sigmoid that a folded model ends with, behind which there may be a reshaping; None without one."""
    layer = dequantize.input.node.layer
    while isinstance(layer, IntegerReshape):
        layer = layer.input.node.layer
    return layer if isinstance(layer, IntegerLogistic) else None


def head_of(folded: keras.Model) -> Head:
    """The head of a folded model with one output that a `Dequantize` makes."""
    end = folded.outputs[0].node.layer
    return Head(
        name=folded.name,
        shape=tuple(folded.outputs[0].shape[1:]),
        # A model that was saved before heads were remembered has its sigmoid at least.
        activation=end.activation or (logistic_of(end) and "sigmoid"),
        loss=end.loss,
    )


class ImageInput:
    """What a file's one input takes: the image's codes, or the float image, in the input's own type.

    Args:
      trace: of the folded model.
      file: its file's contents.

    Raises:
      ValueError: if the file has several inputs, or its input is not that of the folded model.
    """

    def __init__(self, trace: Trace, file: TfliteFile):
        inputs = file.at(file.inputs)
        if len(inputs) != 1:
            names = sorted(tensor.name for tensor in inputs)
            raise ValueError(f"the file has inputs {names}; one image is expected.")
        (image,) = inputs
        self.name, self.dtype, self._trace = image.name, numpy_type(image), trace
        self._shift = {np.uint8: 128, np.int8: 0}.get(self.dtype)
        if self._shift is not None:
            check_grid("input", image, trace.entry_grid, shift=self._shift)

    def __call__(self, images, codes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Input name -> values, for float images and the codes that the trace gave for them."""
        if self._shift is None:
            return {self.name: np.asarray(images, self.dtype)}
        shifted = codes[self._trace.entry].astype(np.int16) + self._shift
        return {self.name: shifted.astype(self.dtype)}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a folded model, or its file, says of a batch of images.

    Attributes:
      codes: int8 codes of the outputs [N, ...]. Where the network ends with a sigmoid, those of the logits
        come second, of the same shape.
      logits: float logits [N, ...], of the outputs' shape.
      outputs: float outputs: the logits, or the probabilities that a sigmoid makes of them.
      named: the classes, or decisions, that a file of output type "class" names; None for others.
    """

    codes: tuple[np.ndarray, ...]
    logits: np.ndarray
    outputs: np.ndarray
    named: np.ndarray | None = None


class FileOutput:
    """What a file says, whatever its output type, and what its folded model does.

    Args:
      trace: of the folded model.
      data: bytes of its file.

    Attributes:
      file: the contents of `data` as it was given.
      data: the file with the codes as outputs too. It has no SOFTMAX, on which LiteRT's reference kernels
        abort the process where a row's exponentials sum to 512 or more.

    Raises:
      ValueError: if the file's outputs are not made from the folded model's.
    """

    def __init__(self, trace: Trace, data: bytes):
        self.file = file = tflite_file.parse(data)
        names = [tensor.name for tensor in file.at(file.outputs)]
        makers = {trace.logits: "CODES"}
        for operator in file.operators:
            sources = [tensor.name for tensor in file.at(operator.inputs[:1]) if tensor]
            # Shapes and paddings of the codes in front of an ARG_MAX are not what makes an output.
            made_by = operator.kind if operator.kind not in ("RESHAPE", "PAD") else None
            for name in (tensor.name for tensor in file.at(operator.outputs) if tensor):
                if name == trace.final:
                    makers[name] = "CODES"
                elif not sources or sources[0] not in makers:
                    continue
                elif made_by != "DEQUANTIZE" or sources[0] == trace.final:
                    makers[name] = made_by or "SHAPED"
        made = {makers[name]: name for name in names if name in makers}
        if len(made) != len(names) or not made.keys() & {"CODES", "DEQUANTIZE", "ARG_MAX"}:
            what = "logits" if trace.logits == trace.final else "probabilities"
            raise ValueError(
                f"the file has outputs {names}; expected are the folded model's {what} {trace.final!r}, as "
                "codes, as floats or as class and probabilities: the file was made from another model."
            )
        by_name = {tensor.name: tensor for tensor in file.tensors}
        for name, grid in ((trace.logits, trace.logits_grid), (trace.final, trace.final_grid)):
            if name not in by_name:
                raise ValueError(f"the file has no tensor {name!r}: it was made from another model.")
            check_grid("output", by_name[name], grid)
        self._trace, self._named, self._floats = trace, made.get("ARG_MAX"), made.get("DEQUANTIZE")
        own = [name for name in (self._named, self._floats) if name]
        self.data = expose(data, dict.fromkeys([trace.logits, trace.final, *own]))

    def __call__(self, outputs: dict[str, np.ndarray]) -> Answer:
        """The file's answer, from what `data` gave."""
        return self._answer(outputs, outputs.get(self._floats), outputs.get(self._named))

    def folded(self, codes: dict[str, np.ndarray]) -> Answer:
        """The folded model's answer, from the codes that its trace gave."""
        return self._answer(codes)

    def _answer(self, tensors, floats=None, named=None) -> Answer:
        trace = self._trace
        final, logits = tensors[trace.final], tensors[trace.logits]
        outputs = trace.final_grid.dequantize(final) if floats is None else floats
        if trace.logits == trace.final:
            return Answer((final,), outputs, outputs, named)
        as_floats = trace.logits_grid.dequantize(logits).reshape(outputs.shape)
        return Answer((final, logits), as_floats, outputs, named)


def check_grid(what: str, tensor: Tensor, grid: Grid, *, shift: int = 0) -> None:
    """Checks that a file's tensor is on a grid of the folded model.

    Args:
      what: "input" or "output".
      tensor: the file's.
      grid: the folded model's.
      shift: what the file's codes are above the folded model's, 128 for uint8.

    Raises:
      ValueError: if it is not.
    """
    scale, zero_point = tensor.scale, tensor.zero_point
    if (np.float32(scale), zero_point) != (np.float32(grid.scale), grid.zero_point + shift):
        raise ValueError(
            f"the codes of the file's {what} have scale {scale} and zero point {zero_point}, those of the "
            f"folded model {grid}: the file was made from another model."
        )
