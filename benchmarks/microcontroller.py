"""RAM with stack, flash and instructions of networks as C source on emulated microcontrollers.

    python -m benchmarks.microcontroller --make=files --data_dir=DIR        # the networks, 15 minutes
    python -m benchmarks.microcontroller --files=files --cmsis_nn=CMSIS-NN \\
        --json=results/export/microcontroller.json                          # 10 minutes

Each file becomes C source (`export.c_source`) twice, packed and with a byte for every activation and weight,
is compiled with -O3 for each board and run (`benchmarks.emulated`) on images from NAME.npy of the file
NAME_CHOICE.tflite. All logits are compared with LiteRT's, that is XNNPACK's. RAM and flash are those of a
program that calls the network, less those of the same program without one; the image is not counted. DIR
holds cifar10 as TFDS prepares it. --cmsis_nn is a checkout of CMSIS-NN, whose int8 kernels are counted layer
by layer beside ours, with an addition where our step has one. No board is here: cycles and energy are not
measured.
"""

import atexit
import functools
import pathlib
import shutil
import sys
import tempfile

import numpy as np

from benchmarks import cmsis_nn, command_line, emulated, micro_interpreter
from mmx_tf.export import reference
from mmx_tf.export.c_source import c_source
from mmx_tf.export.c_source.prefix import RUNTIME
from mmx_tf.export.c_source.writer import runtime
from mmx_tf.export.running import litert

MODULE = "benchmarks.microcontroller"
BUILDS = ("packed", "int8")
TIMEOUT_S = 600
_FLAGS = ("-O3", "-std=c99")
_MAIN = pathlib.Path(__file__).with_suffix(".c")
_STEPS = _MAIN.with_name("microcontroller_steps.c")
_NOTHING = (
    '#include "net.h"\nvoid net_run(const uint8_t *image, int8_t *logits) { (void)image, (void)logits; }\n'
)


class Firmware:
    """The C source of a file, with images, for one board.

    Args:
      data: bytes of a .tflite of uint8 images and int8 logits.
      build: one of `BUILDS`.
      board: one of `emulated.BOARDS`.
      images: uint8 [N, H, W, C].
      folder: an empty one, for sources and programs.
    """

    def __init__(self, data: bytes, build: str, board: str, images: np.ndarray, folder: pathlib.Path):
        self._board, self._folder = board, folder
        self._made = c_source(data, activations=build, weights=build)
        for name, text in self._made.files.items():
            (folder / name).write_text(text)
        (name,) = litert.Runner(data).inputs
        (logits,) = litert.run(data, {name: images}).values()
        self.expected = logits.reshape(len(images), -1)
        """LiteRT's logits, int8 [N, classes]."""
        rows = ",\n".join("{" + ",".join(map(str, image.ravel())) + "}" for image in images)
        (folder / "images.h").write_text(
            f"enum {{ IMAGES = {len(images)}, LOGITS = {self.expected.shape[1]} }};\n"
            f"static const uint8_t images[IMAGES][{images[0].size}] = {{\n{rows}\n}};\n"
        )

    def measured(self) -> dict:
        """What it takes, and how many of its logits are not `expected`."""
        program, empty = self._built("network", _MAIN), self._built("nothing", _MAIN, network=False)
        run = program.run(timeout_s=TIMEOUT_S)
        logits = np.array([row.split() for row in run.output.splitlines()], np.int64)
        net = run.sections["net"]
        return {
            "plan_bytes": self._made.ram_bytes,
            "ram_bytes": program.ram_bytes - empty.ram_bytes,
            "stack_bytes": net.stack_bytes,
            "ram_with_stack_bytes": program.ram_bytes - empty.ram_bytes + net.stack_bytes,
            "code_bytes": program.text - empty.text,
            "constant_bytes": program.rodata - empty.rodata,
            "flash_bytes": program.flash_bytes - empty.flash_bytes,
            "instructions": net.instructions,
            "logits": logits.size,
            "logits_unlike_xnnpack": int(np.count_nonzero(logits != self.expected)),
        }

    def instructions_by_step(self) -> dict[str, int]:
        """Instructions of each step, by the tensor that its operator computes."""
        run = self._built("steps", _STEPS, flags=["-DNET_TRACE"]).run(timeout_s=TIMEOUT_S)
        traced = [step for step in self._made.program.steps if step.output.place == "arena"]
        # What only moves an input's codes into slots has no operator.
        names = [(step.operator.outputs[0] if step.operator else step.output).name for step in traced]
        return dict(zip(names, map(int, run.output.split()), strict=True))

    def additions(self) -> set[str]:
        """The layers, by the tensors that their operators compute, whose steps add another tensor besides."""
        steps = self._made.program.steps
        return {step.operator.outputs[0].name for step in steps if step.addition is not None}

    def _built(self, name, main, *, network=True, flags=()):
        if network:
            sources = [self._folder / "net.c", _kernels(self._board)]
        else:
            sources = [self._folder / "nothing.c"]
            sources[0].write_text(_NOTHING)
        return emulated.build([main, *sources], self._board, self._folder, flags=[*_FLAGS, *flags], name=name)


@functools.cache
def _kernels(board):
    """The kernels' object file, which all networks share."""
    folder = pathlib.Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in RUNTIME:
        (folder / name).write_text(runtime(name))
    return emulated.compiled(folder / "mmx_kernels.c", board, folder, flags=_FLAGS)


def beside_cmsis_nn(layers, ours: dict[str, dict[str, int]], theirs: dict[str, int]) -> list[dict]:
    """A row for each layer with weights: its kind, shape, and instructions of every build and of CMSIS-NN."""
    rows = []
    for layer in layers:
        row = {"layer": layer.name, "kind": layer.title, "input": layer.input, "output": layer.output}
        row |= {"cmsis_nn_s8": theirs[layer.name]}
        row |= {build: steps[layer.name] for build, steps in ours.items()}
        rows.append(row | {f"{build}_ratio": row[build] / row["cmsis_nn_s8"] for build in ours})
    return rows


def measure_file(data: bytes, images: np.ndarray, board: str, cmsis_nn_root: pathlib.Path | None) -> dict:
    """One file on one board: what it takes in each build, and its layers beside CMSIS-NN's if given."""
    found, steps = {}, {}
    for build in BUILDS:
        with tempfile.TemporaryDirectory() as folder:
            firmware = Firmware(data, build, board, images, pathlib.Path(folder))
            found[build] = firmware.measured()
            steps[build] = firmware.instructions_by_step() if cmsis_nn_root else {}
            added = firmware.additions()
    if cmsis_nn_root:
        layers = cmsis_nn.weighted_layers(reference.load(data), added)
        found["layers"] = beside_cmsis_nn(layers, steps, cmsis_nn.instructions(layers, cmsis_nn_root, board))
    return found


def micro_arena(data: bytes, images: np.ndarray) -> int | None:
    """Bytes of TensorFlow Lite Micro's arena; None where it refuses the file or is not installed."""
    try:
        (answer,) = micro_interpreter.run([(data, [images[:1]])])
    except RuntimeError:
        return None
    return answer.arena_bytes


def table(results: dict[str, dict[str, dict]]) -> str:
    """The results as a table in Markdown: int8 -> packed."""
    lines = [
        "| network | board | RAM, stack, kB | constants, kB | code, kB | M instructions | unlike XNNPACK |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        for board, found in result["boards"].items():

            def change(key, unit, found=found):
                return " -> ".join(f"{found[build][key] / unit:.1f}" for build in reversed(BUILDS))

            unlike = " and ".join(
                f"{found[b]['logits_unlike_xnnpack']} of {found[b]['logits']}" for b in BUILDS
            )
            numbers = [
                ("ram_with_stack_bytes", 1e3),
                ("constant_bytes", 1e3),
                ("code_bytes", 1e3),
                ("instructions", 1e6),
            ]
            cells = [name, board, *(change(*number) for number in numbers), unlike]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def layer_table(rows: list[dict]) -> str:
    """Layers beside CMSIS-NN's, the least favourable of each kind first."""
    lines = [f"{'layer':<40} {'kind':<16} {'CMSIS-NN s8':>12} {'packed':>7} {'int8':>7}"]
    for row in sorted(rows, key=lambda row: (row["kind"], -row["packed_ratio"])):
        ratios = f"{row['packed_ratio']:>7.2f} {row['int8_ratio']:>7.2f}"
        lines.append(f"{row['layer'][-40:]:<40} {row['kind']:<16} {row['cmsis_nn_s8']:>12,} {ratios}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Makes or measures the files, prints the table; returns the exit code."""
    parser = command_line.argument_parser(MODULE, __doc__)
    parser.add_argument("--make", type=pathlib.Path, metavar="DIR", help="trains the networks, and ends")
    parser.add_argument("--data_dir", default="", help="of --make: holds cifar10 as TFDS prepares it")
    parser.add_argument("--steps", type=command_line.positive, default=60, help="of --make: %(default)s")
    parser.add_argument("--files", type=pathlib.Path, metavar="DIR", help="what --make has written")
    parser.add_argument("--only", default="", metavar="TEXT", help="the files whose names have this in them")
    command_line.add_choice(parser, "--boards", emulated.BOARDS)
    parser.add_argument("--images", type=command_line.positive, default=4, help="default: %(default)s")
    parser.add_argument("--cmsis_nn", type=pathlib.Path, metavar="DIR", help="a checkout of CMSIS-NN")
    options = parser.parse_args(argv)
    if options.make:
        from benchmarks import microcontroller_networks as networks

        networks.make(options.make, networks.NETWORKS, data_dir=options.data_dir, steps=options.steps)
        return 0
    results = {}
    for path, images_path in _checked_files(parser, options).items():
        data, images = path.read_bytes(), np.load(images_path)[: options.images]
        boards = {}
        results[path.stem] = {
            "file_bytes": len(data), "micro_arena_bytes": micro_arena(data, images), "boards": boards,
        }  # fmt: skip
        for board in options.boards:
            boards[board] = measure_file(data, images, board, options.cmsis_nn)
            print(table({path.stem: {"boards": {board: boards[board]}}}), flush=True)
            if options.cmsis_nn:
                print(layer_table(boards[board]["layers"]), flush=True)
    print(table(results))
    command_line.write_results(
        MODULE, options, unit="bytes, instructions", results=results, files="files", cmsis_nn="CMSIS-NN"
    )
    return 0


def _checked_files(parser, options) -> dict[pathlib.Path, pathlib.Path]:
    """The files to measure and those of their images; ends the command where something is missing."""
    if options.files is None:
        parser.error("give --make=DIR, or --files=DIR of what it has written.")
    if emulated.MISSING:
        parser.error(f"this machine lacks {', '.join(emulated.MISSING)}.")
    paths = [path for path in sorted(options.files.glob("*.tflite")) if options.only in path.name]
    if not paths:
        parser.error(f"--files={options.files} holds no .tflite with {options.only!r} in its name.")
    images = {path: path.with_name(path.stem.rpartition("_")[0] + ".npy") for path in paths}
    for path, beside in images.items():
        if not beside.is_file():
            parser.error(
                f"{path} has no images beside it: {beside.name}, uint8 [N, height, width, channels]."
            )
    if options.cmsis_nn:
        try:
            cmsis_nn.sources(options.cmsis_nn)
        except ValueError as error:
            parser.error(f"--cmsis_nn={error}")
    return images


if __name__ == "__main__":
    sys.exit(main())
