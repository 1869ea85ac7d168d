"""What a .tflite says of images: its top classes with their probabilities, or its outputs as they are.

    python -m export.run model.tflite cat.jpg dog.png
    python -m export.run model.tflite images.npy --labels=labels.txt --top=3

The file runs in LiteRT, and no TensorFlow is loaded. An image of another size is resized as evaluation does
it, and its pixels are given as the file takes them. What the file does not tell of itself (how pixels are
scaled for a float input, what outputs stand for) is taken from the run.flags beside it. A .npy file holds one
example or several: uint8 are pixels, floats what the network sees, and what has the type of the file's input
is given as it is. Exit code 2: a file that cannot be read, or takes no images.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from mmx_tf import choices, command_line, startup
from mmx_tf.export.reading import tflite_file
from mmx_tf.export.reading.contents import Tensor, TfliteFile
from mmx_tf.export.running import ends, images, litert, shown
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.recipe.texts import parse_pixel_scaling
from mmx_tf.workdir.belonging import FLAG_FILE

ARRAY = ".npy"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _asked(arguments)
    try:
        file = tflite_file.read(options.file)
        tensor, recipe = _input_of(file), _recipe_beside(options.file)
        scaling = _scaling(tensor, recipe, options.pixel_scaling)
        outputs = shown.outputs_of(
            file, labels=_labels(options.labels), task=recipe.told_task if recipe else None
        )
        for path in options.examples:
            if not path.is_file():
                raise ValueError(f"{path}: there is no such file.")
        with startup.without_native_noise():
            runner = litert.Runner(file.data)
            # LiteRT says once that it has made its delegate.
            runner({tensor.name: np.zeros((1, *tensor.shape[1:]), ends.INPUT_TYPES[tensor.type])})
        for name, codes in _examples(options.examples, tensor, recipe, scaling):
            found = runner({tensor.name: codes[np.newaxis]})
            print("\n".join([name, *shown.lines(outputs, found, top=options.top)]), flush=True)
    except (OSError, RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser("run", "Run a .tflite on images, and print what it says of them.")
    parser.add_argument("file", type=pathlib.Path, metavar="FILE.tflite", help="the network")
    parser.add_argument(
        "examples", nargs="+", type=pathlib.Path, metavar="IMAGE", help="an image, or arrays as FILE.npy"
    )
    parser.add_argument(
        "--labels",
        type=pathlib.Path,
        metavar="FILE",
        help="names of the classes, one a line; default: those in the file",
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes shown, default: %(default)s")
    parser.add_argument(
        "--pixel_scaling",
        default="",
        metavar="SCALE,OFFSET",
        help="the network sees pixel * scale + offset, such as 1/255,0; default: the run's. An integer input "
        "takes the pixels themselves without it",
    )
    return parser


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.top < 1:
        parser.error(f"--top={options.top}: at least 1 is needed.")
    return options


def _recipe_beside(path: pathlib.Path) -> Recipe | None:
    """The recipe of the run whose workdir a file lies in; None if there is no run, or it cannot be read."""
    flagfile = path.resolve().parent / FLAG_FILE
    if not flagfile.exists():
        return None
    try:
        return Recipe.from_flagfile(flagfile.read_text())
    except (OSError, ValueError) as error:
        _note(f"{flagfile} is not used: {error}")
        return None


def _input_of(file: TfliteFile) -> Tensor:
    tensors = file.at(file.inputs)
    if len(tensors) != 1:
        names = ", ".join(repr(tensor.name) for tensor in tensors)
        raise ValueError(f"the file has the inputs {names}; this command gives one input alone.")
    (tensor,) = tensors
    if tensor.type not in ends.INPUT_TYPES or (tensor.type != "FLOAT32" and tensor.scale is None):
        raise ValueError(
            f"the file's input is {tensor.type}; it must be one of {', '.join(ends.INPUT_TYPES)}, with a "
            "grid where it is an integer."
        )
    return tensor


def _scaling(tensor: Tensor, recipe: Recipe | None, asked: str) -> tuple[float, float] | None:
    """How pixels are scaled for an input; None where its codes are the pixels."""
    if asked:
        return parse_pixel_scaling(asked)
    if tensor.type != "FLOAT32":
        return None
    if recipe is None:
        _note("the input takes floats, and no run.flags beside the file says how pixels are scaled: they are "
              "given as pixel / 127.5 - 1. --pixel_scaling says otherwise.")  # fmt: skip
    return (recipe and recipe.pixel_scaling) or choices.PIXEL_SCALING


def _labels(path: pathlib.Path | None) -> list[str] | None:
    """The names in a file of labels."""
    if path is None:
        return None
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"--labels={path} is no text: {error}.") from error
    except OSError as error:
        raise ValueError(f"--labels={path}: {(error.strerror or str(error)).lower()}.") from error


def _examples(
    paths: Sequence[pathlib.Path], tensor: Tensor, recipe: Recipe | None, scaling
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and codes, of the input's shape without the batch, of each example."""
    for path in paths:
        if path.suffix.lower() == ARRAY:
            yield from _of_array(path, tensor, scaling)
        else:
            yield str(path), ends.codes_of_pixels(_pixels(path, tensor, recipe), tensor, scaling=scaling)


def _pixels(path: pathlib.Path, tensor: Tensor, recipe: Recipe | None) -> np.ndarray:
    shape = tensor.shape[1:]
    if len(shape) != 3 or shape[-1] not in images.MODES:
        raise ValueError(
            f"{path}: the file takes examples of shape {shape}, which are no images of 1 or 3 channels. Give "
            f"arrays as FILE{ARRAY}."
        )
    height, width, channels = shape
    image = images.read(path, channels=channels)
    if image.shape == shape:
        return image
    # As evaluation does it (`mmx_tf.data`): small images, and digits, are taken whole.
    small = min(height, width) < choices.SMALL_IMAGE_BELOW or (recipe and recipe.dataset == "digits")
    part = "the square centre" if height == width else "the centre"
    _note(
        f"{path}: {image.shape[1]}x{image.shape[0]} pixels; {part} is resized to {width}x{height}"
        + ("." if small else ", without an eighth of it, as in evaluation.")
    )
    return images.fitted(image, height, width, margin=1.0 if small else choices.EVAL_MARGIN)


def _of_array(path: pathlib.Path, tensor: Tensor, scaling) -> Iterator[tuple[str, np.ndarray]]:
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is no array of numbers: {error}.") from error
    shape = tensor.shape[1:]
    if array.shape != shape and array.shape[1:] != shape:
        raise ValueError(
            f"{path} has the shape {array.shape}; the file takes one example {shape} or several, (N, "
            f"{', '.join(map(str, shape))})."
        )
    one = array.shape == shape
    for index, example in enumerate(array[np.newaxis] if one else array):
        try:
            codes = ends.codes_of_array(np.asarray(example), tensor, scaling=scaling)
        except ends.InputError as error:
            raise ValueError(f"{path}: {error}") from error
        yield str(path) if one else f"{path}[{index}]", codes


def _note(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
