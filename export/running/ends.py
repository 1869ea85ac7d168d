"""What goes into a .tflite and comes out of it, as numbers: pixels to codes, and codes to scores.

    codes = codes_of_pixels(pixels, tensor, scaling=None)      # tensor: of the file's input
    numbers_of(values, tensor)                                 # values: of an output, as LiteRT gives them
    probabilities(numbers, task, are_already=False)

Needs numpy alone.
"""

import numpy as np

from mmx_tf.export.reading.contents import Tensor, TfliteFile

INPUT_TYPES = {"UINT8": np.uint8, "INT8": np.int8, "FLOAT32": np.float32}
_PASSED_ON = ("DEQUANTIZE", "QUANTIZE", "RESHAPE")
_PROBABILITY_GRID = (1 / 256, -128)
"""Scale and zero point of int8 probabilities, as the runtimes' LOGISTIC and SOFTMAX have them."""


class InputError(ValueError):
    """An array that the file does not take; the message says what it takes."""


def codes_of_pixels(pixels: np.ndarray, tensor: Tensor, *, scaling: tuple[float, float] | None) -> np.ndarray:
    """Pixels 0..255 as an input tensor takes them.

    Args:
      pixels: uint8, of any shape.
      tensor: of the input, one of `INPUT_TYPES`.
      scaling: (scale, offset), the network sees pixel * scale + offset. None for an integer input whose codes
        are the pixels.
    """
    if scaling is None:
        return pixels if tensor.type == "UINT8" else (pixels.astype(np.int16) - 128).astype(np.int8)
    scale, offset = scaling
    # As `mmx_tf.data.images` has it: by 127.5 or 255 is divided.
    return codes_of_numbers(pixels.astype(np.float32) / np.float32(1 / scale) + np.float32(offset), tensor)


def codes_of_numbers(numbers: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Numbers that the network sees, as an input tensor takes them: on its grid, or as floats."""
    kind = INPUT_TYPES[tensor.type]
    if kind is np.float32:
        return numbers.astype(kind)
    if not np.isfinite(numbers).all():
        raise InputError("it has numbers that are NaN or infinite, which an integer input cannot take.")
    limits = np.iinfo(kind)
    codes = np.rint(numbers.astype(np.float64) / tensor.scale) + tensor.zero_point
    return np.clip(codes, limits.min, limits.max).astype(kind)


def codes_of_array(array: np.ndarray, tensor: Tensor, *, scaling: tuple[float, float] | None) -> np.ndarray:
    """An array of a user's as an input tensor takes it.

    What has the tensor's type is given as it is; uint8 are pixels, and floats what the network sees.

    Raises:
      InputError: for another type.
    """
    if array.dtype == INPUT_TYPES[tensor.type]:
        return array
    if array.dtype == np.uint8:
        return codes_of_pixels(array, tensor, scaling=scaling)
    if np.issubdtype(array.dtype, np.floating):
        return codes_of_numbers(array, tensor)
    raise InputError(
        f"it holds {array.dtype}, and the file takes {tensor.type.lower()}: give uint8 (pixels), floats "
        f"(what the network sees) or {tensor.type.lower()} (as it is)."
    )


def numbers_of(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    """What an output tensor's values stand for: the numbers of its codes, and all others as they are."""
    if tensor.type not in ("INT8", "UINT8") or tensor.scale is None:
        return values
    return ((values.astype(np.float64) - tensor.zero_point) * tensor.scale).astype(np.float32)


def are_probabilities(file: TfliteFile, output: int) -> bool:
    """Whether an output tensor holds probabilities, as its codes' grid tells; other outputs are logits."""
    makers = {index: operator for operator in file.operators for index in operator.outputs}
    while (maker := makers.get(output)) is not None and maker.kind in _PASSED_ON:
        output = maker.inputs[0]
    tensor = file.tensors[output]
    made = maker is not None and maker.kind in ("LOGISTIC", "SOFTMAX")
    return made or (tensor.type == "INT8" and (tensor.scale, tensor.zero_point) == _PROBABILITY_GRID)


def probabilities(scores: np.ndarray, task: str, *, are_already: bool) -> np.ndarray:
    """Probabilities of classes, or of labels, from one image's outputs [C].

    Args:
      scores: logits, or what `are_already` says.
      task: "classification", "binary" (both classes: [2] from [1]) or "multi_label".
      are_already: whether the scores are probabilities.
    """
    scores = scores.astype(np.float64)
    if task == "classification" and not are_already:
        raised = np.exp(scores - scores.max())
        return raised / raised.sum()
    found = scores if are_already else 1 / (1 + np.exp(-scores))
    return np.concatenate([1 - found, found]) if task == "binary" else found
