"""The codes of every tensor of a folded model, and how they go into a file.

trace = Trace(folded)
trace(images)["stem"]                       # int8 codes [N, height, width, channels]
image = ImageInput(trace, file)              # file: what `export.reading.tflite_file.parse` gives
runner(image(images, trace(images)))        # the file's outputs on the same images, whatever its input type


What comes out of a file is in `export.comparing.answers`.
"""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mmx_tf.export.comparing.ends import ends_of
from mmx_tf.export.comparing.outputs import Outputs
from mmx_tf.export.reading.constants import numpy_type
from mmx_tf.export.reading.contents import Tensor, TfliteFile
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.layers import QuantizeInput
from mmx_tf.layers.quantizers.pixels import QuantizePixels, told_outside


class Trace:
    """The codes of every tensor of a folded model.

    Attributes:
      names: of the tensors.
      entry, entry_grid: name and grid of the image's codes.
      ends: where the codes of each output are (`export.comparing.ends`), in the order of `outputs`.
      outputs: their names.
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
        self.ends = ends_of(folded)
        if len(entries) != 1:
            raise ValueError(
                f"model {folded.name!r} was not made by mmx_tf.fold with one image: give mmx_tf.fold(fixed)."
            )
        self.outputs = Outputs.of(folded, [end.name for end in self.ends])
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
