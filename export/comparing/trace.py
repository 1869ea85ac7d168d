"""The codes of every tensor of a folded model, and how they go into a file.

trace = Trace(folded)
trace(images)["stem"]                       # int8 codes [N, height, width, channels]
image = ImageInput(trace, file)              # file: what `export.reading.tflite_file.parse` gives
runner(image(images, trace(images)))        # the file's outputs on the same images, whatever its input type


What comes out of a file is in `export.comparing.answers`.
"""

from collections.abc import Mapping

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
      entries: input's name -> the layer that gives its codes.
      ends: where the codes of each output are (`export.comparing.ends`), in the order of `outputs`.
      outputs: their names.
      image_shape: of one image, (height, width, channels), or one signal or vector; of several inputs in a
        dict by their names.
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
        if len(entries) != len(folded.inputs):
            raise ValueError(f"model {folded.name!r} was not made by mmx_tf.fold: give mmx_tf.fold(fixed).")
        self.outputs = Outputs.of(folded, [end.name for end in self.ends])
        self.entries = {_input_of(entry, folded): entry for entry in entries}
        shapes = {
            name: tuple(tensor.shape[1:])
            for name, tensor in zip(folded.input_names, folded.inputs, strict=True)
        }
        self.image_shape = shapes if len(shapes) > 1 else next(iter(shapes.values()))
        # Behind a rescaling its scale is not that of the images.
        self._pixels = {
            name: entry
            for name, entry in self.entries.items()
            if isinstance(entry, QuantizePixels) and any(entry.input is tensor for tensor in folded.inputs)
        }
        self._ordered = [layer.name for layer in tensors]
        self.names = set(self._ordered)
        exposed = keras.Model(folded.inputs, [layer.output for layer in tensors])
        self._run = tf.function(
            lambda images: [tf.cast(codes, tf.int8) for codes in exposed(images)], reduce_retracing=True
        )

    def __call__(self, images) -> dict[str, np.ndarray]:
        """Tensor name -> int8 codes [N, ...] for float images [N, height, width, channels], or a dict."""
        names = self.image_shape if isinstance(images, Mapping) else ()
        parts = list(map(tf.convert_to_tensor, [images[name] for name in names] or [images]))
        codes = self._run(parts[0] if len(parts) == 1 else parts)
        return dict(zip(self._ordered, (tensor.numpy() for tensor in codes), strict=True))

    def told_outside(self, images: np.ndarray) -> str | None:
        """A sentence about float images of which much is outside of the pixels that the model takes."""
        for name, pixels in self._pixels.items():
            part = images[name] if isinstance(images, Mapping) else images
            if outside := told_outside(part, scale=pixels.scale, offset=pixels.offset):
                return outside
        return None


def _input_of(entry: QuantizeInput, folded: keras.Model) -> str:
    """The name of the input whose codes a layer gives; a rescaling may be in between."""
    tensor = entry.input
    while not any(tensor is taken for taken in folded.inputs):
        tensor = tensor.node.keras_inputs[0]
    return tensor.node.layer.name


class ImageInput:
    """What a file's inputs take: the images' codes, or the float images, each in the input's own type.

    Args:
      trace: of the folded model.
      file: its file's contents.

    Raises:
      ValueError: if the file's inputs are not those of the folded model.
    """

    def __init__(self, trace: Trace, file: TfliteFile):
        inputs = file.at(file.inputs)
        names, own = sorted(tensor.name for tensor in inputs), sorted(trace.entries)
        if len(inputs) != len(own) or (len(own) > 1 and names != own):
            raise ValueError(f"the file has inputs {names}, and the folded model {own}.")
        self._inputs = []
        for image in inputs:
            entry = trace.entries[image.name if len(own) > 1 else own[0]]
            dtype = numpy_type(image)
            shift = {np.uint8: 128, np.int8: 0}.get(dtype)
            if shift is not None:
                check_grid("input", image, entry.output_grid, shift=shift)
            self._inputs.append((image.name, dtype, shift, entry.name))

    def __call__(self, images, codes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Input name -> values, for float images and the codes that the trace gave for them."""
        found = {}
        for name, dtype, shift, entry in self._inputs:
            part = images[name] if isinstance(images, Mapping) else images
            part = part if shift is None else codes[entry].astype(np.int16) + shift
            found[name] = np.asarray(part).astype(dtype)
        return found


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
