"""CMSIS-NN's int8 kernels on the layers of a .tflite, on an emulated board: what they take beside ours.

    layers = weighted_layers(load(data))                # of an `export.reference` graph
    instructions(layers, pathlib.Path("CMSIS-NN"), "cortex-m4")     # name -> instructions

CMSIS-NN (github.com/ARM-software/CMSIS-NN, Apache-2.0) is Arm's library, which TensorFlow Lite Micro calls on
Cortex-M; its sources are not part of this project, so a path to them is given. Its functions choose the
kernel that suits the layer (`arm_convolve_wrapper_s8` and so on), as Micro calls them. Instructions depend on
shapes alone, so weights and codes are zero.
"""

import functools
import math
import pathlib
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, replace

from benchmarks import emulated
from mmx_tf.export.reference.windows import Window

KINDS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 2}
_FOLDERS = ("BasicMathFunctions", "ConvolutionFunctions", "FullyConnectedFunctions", "NNSupportFunctions")
_DRIVER = pathlib.Path(__file__).with_name("cmsis_nn.c")


@dataclass(frozen=True)
class Layer:
    """A layer with weights.

    Attributes:
      name: of its output tensor.
      kind: one of `KINDS`.
      input, output: (height, width, channels).
      kernel, strides, padding, dilation: (down, right); padding above and left.
      added: whether another tensor is added to its output, which is a call of its own.
    """

    name: str
    kind: str
    input: tuple[int, int, int]
    output: tuple[int, int, int]
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    added: bool = False

    @property
    def title(self) -> str:
        """What kind of layer it is for people, such as "3x3 convolution", "pointwise and addition"."""
        return self._own_title + " and addition" * self.added

    @property
    def _own_title(self):
        if self.kind == "FULLY_CONNECTED":
            return "dense"
        size = "x".join(map(str, self.kernel))
        if self.kind == "DEPTHWISE_CONV_2D":
            return f"{size} depthwise"
        return "pointwise" if self.kernel == (1, 1) else f"{size} convolution"


def weighted_layers(graph, added: Collection[str] = ()) -> list[Layer]:
    """The convolutions, depthwise convolutions and dense layers of an `export.reference` graph, in order.

    added: names of those with which an addition is counted.
    """
    found = []
    for operator in graph.operators:
        if operator.kind not in KINDS:
            continue
        source, weights, output = operator.inputs[0], operator.inputs[1], operator.outputs[0]
        if operator.kind == "FULLY_CONNECTED":
            # A pointwise convolution may be written as one, on images.
            image = len(output.shape) == 4
            shapes = (
                (source.shape[1:], output.shape[1:])
                if image
                else ((1, 1, weights.shape[1]), (1, 1, weights.shape[0]))
            )
            found.append(Layer(output.name, "CONV_2D" if image else operator.kind, *map(tuple, shapes)))
            continue
        kernel = weights.shape[1:3]
        window = Window.from_options(source.shape[1:3], kernel, operator.options)
        found.append(
            Layer(
                output.name, operator.kind, tuple(source.shape[1:]), tuple(output.shape[1:]), tuple(kernel),
                tuple(window.strides), tuple(window.before), tuple(window.dilation),
            )
        )  # fmt: skip
    return [replace(layer, added=layer.name in added) for layer in found]


def sources(root: pathlib.Path) -> list[pathlib.Path]:
    """The files of CMSIS-NN that the kernels are in.

    Raises:
      ValueError: `root` is no checkout of CMSIS-NN.
    """
    if not (root / "Include" / "arm_nnfunctions.h").is_file():
        raise ValueError(f"{root} holds no CMSIS-NN: Include/arm_nnfunctions.h is not there.")
    found = [path for folder in _FOLDERS for path in sorted((root / "Source" / folder).glob("*.c"))]
    return [path for path in found if not any(kind in path.name for kind in ("f16", "f32", "s16_s16", "flt"))]


def instructions(layers: list[Layer], root: pathlib.Path, board: str) -> dict[str, int]:
    """Instructions that CMSIS-NN takes for each layer, by name.

    Raises:
      ValueError: `root` is no checkout of CMSIS-NN.
      EmulationError: it does not compile or run, or refuses a layer.
    """
    found = _instructions(tuple(layers), root, board)
    return {layer.name: number for layer, number in zip(layers, found, strict=True)}


# Files of one network differ in their bits alone.
@functools.cache
def _instructions(layers, root, board):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "layers.h").write_text(_table(layers))
        program = emulated.build(
            [_DRIVER, *sources(root)], board, folder, include=[root / "Include", folder], name="cmsis_nn"
        )
        run = program.run()
    if run.exit_code:
        raise emulated.EmulationError(f"CMSIS-NN refuses layer {layers[run.exit_code - 1].name} on {board}.")
    return [run.sections[str(place)].instructions for place in range(len(layers))]


def _table(layers) -> str:
    """The header with the layers' shapes that cmsis_nn.c reads."""
    rows = []
    for layer in layers:
        window = (*layer.kernel, *layer.strides, *layer.padding, *layer.dilation)
        numbers = (KINDS[layer.kind], *layer.input, *layer.output, *window, int(layer.added))
        rows.append(", ".join(map(str, numbers)))
    sizes = {
        "LAYERS": len(layers),
        "WEIGHTS": max(map(_weights, layers)),
        "CHANNELS": max(layer.output[2] for layer in layers),
        "INPUT": max(math.prod(layer.input) for layer in layers),
        "OUTPUT": max(math.prod(layer.output) for layer in layers),
    }
    return (
        f"enum {{ {', '.join(f'{name} = {size}' for name, size in sizes.items())} }};\n"
        + "static const int layers[LAYERS][16] = {\n"
        + "".join(f"  {{{row}}},\n" for row in rows)
        + "};\n"
    )


def _weights(layer: Layer) -> int:
    inputs = 1 if layer.kind == "DEPTHWISE_CONV_2D" else layer.input[2]
    return inputs * layer.output[2] * layer.kernel[0] * layer.kernel[1]
