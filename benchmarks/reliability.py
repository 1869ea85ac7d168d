"""Runs that are killed (SIGKILL) and resumed end with the bytes of a run that was left alone.

    python -m benchmarks.reliability --points=30 --json=results/reliability.json

A small network on scikit-learn's digits is taken through the whole command with --deterministic, once without
a disturbance. Then, for every point, a run in a new workdir is killed at a random moment of one phase, and
the same command is given again. What is compared: bit_selection.json and model.tflite byte for byte, and
metrics.json but for the times.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import numpy as np
import tf_keras as keras

from benchmarks import command_line, measuring
from mmx_tf import checkpoints, data

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


def finish(words: list[str]) -> None:
    """Runs a command to its end.

    Raises:
      RuntimeError: with what it said, if it fails.
    """
    done = subprocess.run(words, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-2000:]}")


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


def kill_at(point: Point, words: list[str], workdir: pathlib.Path) -> str | None:
    """Starts a run and kills it at a point.

    Returns:
      Where it was then, in words; None if it had ended by itself.
    """
    process = subprocess.Popen(words, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not has(workdir, point.sign) and process.poll() is None:
        time.sleep(0.002)
    time.sleep(point.delay)
    process.kill()
    return where(workdir) if process.wait() < 0 else None


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


def main(options: argparse.Namespace) -> None:
    """Kills and resumes a run at every point, prints each and writes all."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        float_model, reference = root / "float.keras", root / "reference"
        save_float_network(float_model)
        finish(arguments(float_model, reference))
        # Its phases take longer than the reference's, since it writes a checkpoint after every step.
        seconds = timeline([*arguments(float_model, root / "timed"), EVERY_STEP], root / "timed")
        assert not differing(root / "timed", reference), "two undisturbed runs differ"
        for i, point in enumerate(points(options.points, seed=options.seed, seconds=seconds)):
            workdir = root / f"run{i}"
            words = [*arguments(float_model, workdir), EVERY_STEP]
            killed = kill_at(point, words, workdir)
            if killed:
                finish(words)
            found = differing(workdir, reference)
            results.append({"phase": point.phase, "killed": killed, "differing": found})
            print(f"{i + 1:3}  {point.phase:16} {killed or 'had ended'}: {found or 'equal'}", flush=True)
    equal = sum(not row["differing"] for row in results)
    killed = sum(row["killed"] is not None for row in results)
    print(f"{killed} runs killed and resumed, {equal} of {len(results)} equal to the undisturbed run")
    if options.json:
        written = measuring.document(
            command_line.command("benchmarks.reliability", options),
            killed=killed, equal=equal, points=results,
        )  # fmt: skip
        measuring.write_json(options.json, written)


if __name__ == "__main__":
    parser = command_line.argument_parser("benchmarks.reliability", __doc__)
    parser.add_argument("--points", type=command_line.positive, default=30, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    main(parser.parse_args())
