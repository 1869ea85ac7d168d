"""MLPerf Tiny's reference networks through the command line, each from its file to a verified .tflite.

    python -m benchmarks.mlperf_tiny --models=DIR --data_dir=DIR --json=results/mlperf_tiny/runs.json

DIR of --models holds the files of mlcommons/tiny, benchmark/training, as published: kws_ref_model,
vww_96.h5, pretrainedResnet.h5, ad01.h5. For each of them `python -m mmx_tf.train` is started. The ResNet
alone gets its own data, CIFAR-10 of TFDS in --data_dir, and whole epochs of it: its accuracy is one. Speech
Commands, Visual Wake Words and ToyADMOS are not fetched: those networks get made-up arrays of the right
shape, scale and seed, labelled by the float network itself (a "top-1" there is how often a network still
agrees with it), and few steps. Their figures say that the way through the commands works and that every code
of the file is the folded network's; they say nothing about accuracy on the benchmark.

Results are written after every network. Those of networks that are not run stay as OUT has them. With
--workdir=W the runs' folders are kept in W, and the same command goes on with a run that was stopped.
"""

import contextlib
import json
import pathlib
import shlex
import subprocess
import sys
import tempfile

import numpy as np

from benchmarks import command_line

MODULE = "benchmarks.mlperf_tiny"
MADE, EXAMPLES = 1024, 512
"""How many are made up, and how many of them are taken."""
CHECKED = ("--parity_images=32", "--max_disagreement=0")
SHORT = (
    "--batch_size=32", "--steps_per_epoch=8", "--select_epochs=2", "--train_epochs=1", "--eval_images=256",
    "--target_average_bits=6", *CHECKED,
)  # fmt: skip
"""Enough to see that a network goes through."""
WHOLE = (
    "--batch_size=128", "--select_epochs=2", "--train_epochs=4", "--candidate_bits=8,4,2", "--weight_bits=4",
    "--target_average_bits=4", *CHECKED,
)  # fmt: skip
"""All images of every epoch, and all test images: figures that are an accuracy."""
KEPT = (
    "task", "quality", "float_top1", "fixed_top1", "folded_top1", "tflite_top1", "agreement",
    "code_disagreement", "eval_images", "tensor_codes_compared", "tensor_codes_differing",
    "xnnpack_partitions", "xnnpack_left_outside", "bops", "average_bits", "file_bytes",
)  # fmt: skip


def keywords(random) -> np.ndarray:
    """Like the benchmark's MFCCs of a second of speech: slow waves in (49, 10, 1), the first band louder."""
    waves = np.cumsum(random.normal(0, 1, (MADE, 49, 10, 1)), axis=1)
    loudness = random.uniform(0.1, 1.5, (MADE, 1, 1, 1))
    return np.float32((waves * np.array([8, *[2] * 9])[:, np.newaxis] - 4) * loudness)


def machines(random) -> np.ndarray:
    """Like log-mel spectra in decibels, five frames of 128 bands, louder where the tone is low: (640,)."""
    return np.float32(random.normal(-30 - np.tile(np.arange(128) / 8, 5), 6, (MADE, 640)))


def scenes(random) -> np.ndarray:
    """Blurred colours, uint8 (96, 96, 3); the network sees nobody in any of them."""
    coarse = random.integers(0, 256, (MADE, 6, 6, 3))
    return np.uint8(np.kron(coarse, np.ones((1, 16, 16, 1))))


NETWORKS = {
    # file, what makes the data (None: a TFDS dataset), flags, classes (0: it is an autoencoder)
    "kws": ("kws_ref_model", keywords, ("--learning_rate=0.0005", *SHORT), 12),
    "ad": (
        "ad01.h5",
        machines,
        ("--learning_rate=1e-6", "--select_learning_rate=1e-6", "--step_learning_rate=1e-6", *SHORT),
        0,
    ),
    "vww": (
        "vww_96.h5",
        scenes,
        ("--pixel_scaling=1/255,0", "--augmentation=none", "--learning_rate=0.0005", *SHORT),
        2,
    ),
    "resnet": (
        "pretrainedResnet.h5",
        None,
        ("--dataset=cifar10", "--pixel_scaling=1,0", "--learning_rate=0.01", *WHOLE),
        10,
    ),
}


def write_data(path: pathlib.Path, network: pathlib.Path, make, *, classes: int, flags) -> None:
    """Writes made-up examples as a .npz, labelled by the float network where labels are classes."""
    from mmx_tf import load_model

    examples = make(np.random.default_rng(0))
    if not classes:
        np.savez(path, x=examples[:EXAMPLES])
        return
    scaled = examples / 255 if "--pixel_scaling=1/255,0" in flags else examples
    named = load_model(network).predict(np.float32(scaled), verbose=0).argmax(-1)
    # The first ones of every class, so that no class has nearly all.
    place = np.array([np.count_nonzero(named[:index] == one) for index, one in enumerate(named)])
    kept = np.sort(np.argsort(place, kind="stable")[:EXAMPLES])
    np.savez(path, x=examples[kept], y=named[kept])


def run(name: str, models: pathlib.Path, data_dir: str, folder: pathlib.Path) -> dict:
    """One network through the command: the command, its figures, and how long its phases took."""
    file, make, flags, classes = NETWORKS[name]
    words = [f"--float_model={models / file}", *flags]
    if make is None:
        words.append(f"--data_dir={data_dir}")
    else:
        write_data(folder / f"{name}.npz", models / file, make, classes=classes, flags=flags)
        words.append(f"--dataset=npz:{folder / f'{name}.npz'}")
        if classes:
            words.append(f"--num_classes={classes}")
    words.append(f"--workdir={folder / name}")
    done = subprocess.run(
        [sys.executable, "-m", "mmx_tf.train", *words], capture_output=True, text=True, check=False
    )
    shown = shlex.join(words).replace(str(models), "MODELS").replace(str(folder), "DIR")
    shown = shown.replace(data_dir, "DATA_DIR") if data_dir else shown
    found = {
        "command": f"python -m mmx_tf.train {shown}",
        "data": "CIFAR-10" if make is None else "made up, seed 0",
        "exit_code": done.returncode,
    }
    if done.returncode:
        return found | {"error": done.stderr.strip().splitlines()[-1:]}
    metrics = json.loads((folder / name / "metrics.json").read_text())
    seconds = round(sum(metrics["seconds"].values()), 1)
    return found | {"seconds": seconds} | {key: metrics[key] for key in KEPT if key in metrics}


def main() -> None:
    """Runs the networks and writes what came out."""
    parser = command_line.argument_parser(MODULE, __doc__)
    parser.add_argument(
        "--models", type=pathlib.Path, required=True, metavar="DIR", help="the published files"
    )
    parser.add_argument("--data_dir", default="", metavar="DIR", help="folder of prepared TFDS datasets")
    parser.add_argument("--workdir", type=pathlib.Path, metavar="W", help="default: one that is removed")
    command_line.add_choice(parser, "--networks", NETWORKS)
    options = parser.parse_args()
    earlier = None
    networks = {}
    if options.json and options.json.exists():
        document = json.loads(options.json.read_text())
        earlier, networks = document["provenance"], document["results"]
    with contextlib.ExitStack() as stack:
        folder = options.workdir or stack.enter_context(tempfile.TemporaryDirectory())
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        for name in options.networks:
            networks[name] = run(name, options.models, options.data_dir, pathlib.Path(folder))
            print(json.dumps({name: networks[name]}, indent=1), flush=True)
            command_line.write_results(
                MODULE,
                options,
                unit="as in metrics.json",
                results=networks,
                earlier=earlier,
                models="MODELS",
                data_dir="DATA_DIR",
                workdir="W",
            )


if __name__ == "__main__":
    main()
