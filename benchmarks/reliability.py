"""Runs that are killed (SIGKILL) and resumed end with the bytes of a run that was left alone.

    python -m benchmarks.reliability --points=30 --corruptions=12 --json=results/reliability.json

A small network on scikit-learn's digits is taken through the whole command with --deterministic, once without
a disturbance. Then, for every point, a run in a new workdir is killed at a random moment of one phase, and
the same command is given again. What is compared: bit_selection.json and model.tflite byte for byte, and
metrics.json but for the times.

For the corruptions, a run is killed in a training phase and a file of its newest checkpoint is damaged before
it is resumed: one bit flipped, the file cut at a random place, or removed. It has to end with the same bytes
and to name the checkpoint in a warning. Last, the tables of bad input in `tests/bad_input*_test.py` are run.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import tf_keras as keras

from benchmarks import command_line, measuring
from mmx_tf import data
from mmx_tf.workdir import checkpoints

STEPS = 6
PHASES = {
    "select, epoch 1": ("select", 0),
    "select, epoch 2": ("select", STEPS),
    "train": ("train", 0),
    "convert": "fixed_model.keras",
    "verify": "model.tflite",
    "report": "parity.json",
}
"""Phase -> what the workdir has when it begins: (folder of checkpoints, steps that are done), or a file."""
SECONDS_AFTER_A_STEP = 0.1
DAMAGES = ("bit flipped", "cut", "removed")
COMPARED = ("bit_selection.json", "model.tflite", "metrics.json")
EVERY_STEP = "--checkpoint_minutes=0.000001"
_ROOT = pathlib.Path(__file__).parents[1]


@dataclass(frozen=True)
class Point:
    """A moment at which a run is killed: the phase, what the workdir has then, and the seconds after that."""

    phase: str
    sign: tuple[str, int] | str
    delay: float


def points(number: int, *, seed: int, seconds: dict[str, float]) -> list[Point]:
    """Random moments, the phases in turn.

    Args:
      number: of points.
      seed: of the random numbers.
      seconds: how long each of the phases after training takes.
    """
    generator, chosen = np.random.default_rng(seed), []
    for phase in list(PHASES) * -(-number // len(PHASES)):
        sign, share = PHASES[phase], float(generator.uniform())
        if isinstance(sign, tuple):
            sign = (sign[0], sign[1] + int(generator.integers(STEPS)))
            chosen.append(Point(phase, sign, share * SECONDS_AFTER_A_STEP))
        else:
            chosen.append(Point(phase, sign, share * 0.9 * seconds[phase]))
    return chosen[:number]


def has(workdir: pathlib.Path, sign: tuple[str, int] | str) -> bool:
    """Whether a run has come as far as a sign."""
    if isinstance(sign, str):
        return (workdir / sign).exists()
    return any(n >= sign[1] for n in checkpoints.numbers(workdir / "checkpoints" / sign[0]))


def save_float_network(path: pathlib.Path) -> None:
    """A network of three convolutions, with batch norm and Dropout, briefly trained on digits."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False, name="stem"),
            layers.BatchNormalization(momentum=0.8, name="stem_bn"),
            layers.ReLU(6.0, name="stem_relu"),
            layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
            layers.ReLU(6.0, name="depthwise_relu"),
            layers.Conv2D(8, 1, name="pointwise"),
            layers.ReLU(name="pointwise_relu"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dropout(0.2, name="dropout"),
            layers.Dense(10, name="logits"),
        ]
    )
    network.compile(keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    digits = data.load("digits", image_size=16)
    network.fit(digits.train(batch_size=64, seed=0), epochs=3, verbose=0)
    network.save(path)


def arguments(float_model: pathlib.Path, workdir: pathlib.Path) -> list[str]:
    """The command line of the run, for the interpreter that runs this."""
    return [
        sys.executable, "-m", "mmx_tf.train", f"--float_model={float_model}", "--image_size=16",
        "--batch_size=64", f"--steps_per_epoch={STEPS}", "--train_epochs=2", "--eval_images=64",
        "--parity_images=64", "--target_average_bits=4.5", "--learning_rate=0.01", "--deterministic",
        f"--workdir={workdir}",
    ]  # fmt: skip


def finish(words: list[str]) -> str:
    """Runs a command to its end and returns what it said on stderr.

    Raises:
      RuntimeError: with what it said, if it fails.
    """
    done = subprocess.run(words, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-2000:]}")
    return done.stderr


def timeline(words: list[str], workdir: pathlib.Path) -> dict[str, float]:
    """Runs a command to its end; phase -> the seconds that it took."""
    process = subprocess.Popen(words, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begun: dict[str, float] = {}
    while process.poll() is None:
        for phase, sign in PHASES.items():
            if phase not in begun and has(workdir, sign):
                begun[phase] = time.monotonic()
        time.sleep(0.005)
    if process.returncode or len(begun) < len(PHASES):
        raise RuntimeError(f"exit code {process.returncode} after the phases {list(begun)}")
    ends = [*list(begun.values())[1:], time.monotonic()]
    return {phase: end - begin for (phase, begin), end in zip(begun.items(), ends, strict=True)}


def _quietly(words: list[str]) -> subprocess.Popen:
    return subprocess.Popen(words, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_at(
    point: Point, words: list[str], workdir: pathlib.Path, *, start: Callable = _quietly
) -> str | None:
    """Starts a run and kills it at a point.

    Args:
      point: where.
      words: of the command.
      workdir: that the command has.
      start: starts the command, and returns a `subprocess.Popen` or what has its `poll`, `kill` and `wait`.

    Returns:
      Where it was then, in words; None if it had ended by itself.
    """
    process = start(words)
    while not has(workdir, point.sign) and process.poll() is None:
        time.sleep(0.002)
    time.sleep(point.delay)
    process.kill()
    return where(workdir) if process.wait() < 0 else None


def damage(folder: pathlib.Path, generator: np.random.Generator, way: str) -> str:
    """Damages a random file of a folder's newest checkpoint.

    Args:
      folder: checkpoints of a phase.
      generator: of the choice of file and place.
      way: one of `DAMAGES`.

    Returns:
      The file, below the folder.
    """
    newest = checkpoints.path_of(folder, checkpoints.numbers(folder)[-1])
    path = sorted(newest.iterdir())[int(generator.integers(len(list(newest.iterdir()))))]
    content = bytearray(path.read_bytes())
    place = int(generator.integers(len(content)))
    if way == "removed":
        path.unlink()
    elif way == "cut":
        path.write_bytes(content[:place])
    else:
        content[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(content)
    return f"{newest.name}/{path.name}"


def bad_inputs() -> dict[str, int]:
    """How many rows of the tables of bad input were `tried`, and how many of them `refused` as due."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "results.xml"
        tables = sorted(str(table) for table in _ROOT.glob("tests/bad_input*_test.py"))
        words = [sys.executable, "-m", "pytest", "-q", *tables, f"--junitxml={path}"]
        subprocess.run(words, cwd=_ROOT, stdout=subprocess.DEVNULL, check=False)
        suite = ElementTree.parse(path).getroot().find("testsuite")
    tried = int(suite.get("tests")) - int(suite.get("skipped"))
    return {"tried": tried, "refused": tried - int(suite.get("failures")) - int(suite.get("errors"))}


def where(workdir: pathlib.Path) -> str:
    """The last thing that a workdir has: a file, or in training the newest checkpoint."""
    for name in ("parity.json", "model.tflite", "fixed_model.keras"):
        if (workdir / name).exists():
            return f"after {name}"
    for phase in ("train", "select"):
        found = checkpoints.numbers(workdir / "checkpoints" / phase)
        if found:
            return f"{phase}, after step {found[-1]} of {2 * STEPS}"
    return "before training"


def differing(workdir: pathlib.Path, reference: pathlib.Path) -> list[str]:
    """Names of the files that are not those of the reference."""
    return [name for name in COMPARED if _content(workdir / name) != _content(reference / name)]


def _content(path: pathlib.Path):
    if path.name != "metrics.json":
        return path.read_bytes()
    return {key: value for key, value in json.loads(path.read_text()).items() if key != "seconds"}


def killed_runs(options, root: pathlib.Path, reference: pathlib.Path, seconds) -> list[dict]:
    """One row for each point: where the run was, and which files differ after it was resumed."""
    rows = []
    for i, point in enumerate(points(options.points, seed=options.seed, seconds=seconds)):
        workdir = root / f"run{i}"
        words = [*arguments(root / "float.keras", workdir), EVERY_STEP]
        killed = kill_at(point, words, workdir)
        if killed:
            finish(words)
        found = differing(workdir, reference)
        rows.append({"phase": point.phase, "killed": killed, "differing": found})
        print(f"{i + 1:3}  {point.phase:16} {killed or 'had ended'}: {found or 'equal'}", flush=True)
    return rows


def damaged_runs(options, root: pathlib.Path, reference: pathlib.Path) -> list[dict]:
    """One row for each corruption: what was damaged, whether a warning named it, which files differ."""
    generator, rows = np.random.default_rng(options.seed), []
    phases = [phase for phase, sign in PHASES.items() if isinstance(sign, tuple)]
    for i in range(options.corruptions):
        workdir, (phase, done) = root / f"damaged{i}", PHASES[phases[i % len(phases)]]
        words = [*arguments(root / "float.keras", workdir), EVERY_STEP]
        # Two checkpoints at least, so that there is one before the newest.
        point = Point(phase, (phase, done + 1 + int(generator.integers(STEPS - 1))), 0.0)
        kill_at(point, words, workdir)
        way = DAMAGES[i // len(phases) % len(DAMAGES)]
        file = damage(workdir / "checkpoints" / phase, generator, way)
        named = file.split("/")[0] in finish(words)
        found = differing(workdir, reference)
        rows.append({"phase": phase, "file": file, "damage": way, "named": named, "differing": found})
        said = "named" if named else "NOT named"
        print(f"{i + 1:3}  {phase}/{file} {way}: {said}, {found or 'equal'}", flush=True)
    return rows


def main(options: argparse.Namespace) -> None:
    """Kills, damages and resumes runs, prints each and writes all."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        reference = root / "reference"
        save_float_network(root / "float.keras")
        finish(arguments(root / "float.keras", reference))
        # Its phases take longer than the reference's, since it writes a checkpoint after every step.
        seconds = timeline([*arguments(root / "float.keras", root / "timed"), EVERY_STEP], root / "timed")
        assert not differing(root / "timed", reference), "two undisturbed runs differ"
        killed = killed_runs(options, root, reference, seconds)
        damaged = damaged_runs(options, root, reference)
    refusals = bad_inputs()
    counts = {
        "killed": sum(row["killed"] is not None for row in killed),
        "equal": sum(not row["differing"] for row in killed),
        "corruptions": len(damaged),
        "survived": sum(row["named"] and not row["differing"] for row in damaged),
        "bad_inputs": refusals["tried"],
        "refused": refusals["refused"],
    }
    print(
        "{killed} runs killed and resumed, {equal} equal to the undisturbed run; {survived} of {corruptions} "
        "damaged checkpoints named and survived; {refused} of {bad_inputs} bad inputs refused".format(
            **counts
        )
    )
    if options.json:
        command = command_line.command("benchmarks.reliability", options)
        written = measuring.document(command, **counts, points=killed, damaged=damaged)
        measuring.write_json(options.json, written)


if __name__ == "__main__":
    parser = command_line.argument_parser("benchmarks.reliability", __doc__)
    parser.add_argument("--points", type=command_line.positive, default=30, help="default: %(default)s")
    parser.add_argument("--corruptions", type=command_line.positive, default=12, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    main(parser.parse_args())
