"""Latency and size of an exported file beside plain 8-bit exports of the same network, in one run.

    python -m mmx_tf.train --flagfile=mbv2.flags --data_dir=DIR --workdir=W --steps_per_epoch=2 \\
        --train_epochs=1 --batch_size=8
    python -m benchmarks.exported_file --workdir=W --json=results/export/latency.json

The peers are tfmot's default 8-bit export (quantize_model, then TFLiteConverter) and a post-training int8
export by AI Edge Quantizer (`export.int8_baseline`), both of the workdir's float network. `export.benchmark`
runs all interleaved. How well a network was trained does not change its speed.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import sys
import tempfile
from importlib import metadata

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot

import mmx_tf
from export.atomic import write_atomically
from export.benchmark import benchmark, table
from export.int8_baseline import int8_baseline
from mmx_tf.recipe import Recipe

CALIBRATION_IMAGES = 16


def tfmot_export(float_model, images: np.ndarray) -> bytes:
    """tfmot's default 8-bit export; the images set its activation ranges."""
    quantized = tfmot.quantization.keras.quantize_model(float_model)
    quantized.compile(loss="mse")
    # One pass in training mode: without it every range is the initial one.
    quantized(images, training=True)
    converter = tf.lite.TFLiteConverter.from_keras_model(quantized)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def files_of(workdir: pathlib.Path, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the files into `folder`; the post-training one, the reference of the ratios, comes first."""
    recipe = Recipe.from_flagfile((workdir / "run.flags").read_text())
    fixed = mmx_tf.load_model(workdir / "fixed_model.keras")
    float_model = mmx_tf.load_model(workdir / "checkpoints" / "float.keras")
    data = mmx_tf.data.load(recipe.dataset, data_dir=recipe.data_dir, image_size=recipe.image_size)
    images = np.concatenate([batch for batch, _ in data.evaluation(batch_size=8, limit=CALIBRATION_IMAGES)])
    contents = {
        "post_training_int8": lambda: int8_baseline(float_model, images),
        "tfmot_8bit": lambda: tfmot_export(float_model, images),
        "mmx_tf": lambda: mmx_tf.convert(fixed, labels=data.class_names),
        "mmx_tf_int8_input": lambda: mmx_tf.convert(fixed, labels=data.class_names, input_type="int8"),
        "mmx_tf_int4_xnnpack": lambda: mmx_tf.convert(
            fixed, labels=data.class_names, weight_storage="int4_xnnpack"
        ),
        "mmx_tf_int4": lambda: mmx_tf.convert(fixed, labels=data.class_names, weight_storage="int4"),
    }
    paths = []
    for name, make in contents.items():
        print(name, file=sys.stderr, flush=True)
        paths.append(folder / f"{name}.tflite")
        paths[-1].write_bytes(make())
    return paths


def main() -> int:
    """Exports, times, prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.exported_file", description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="a finished workdir")
    parser.add_argument("--threads", default="1,2", help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--json", type=pathlib.Path, metavar="OUT")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = files_of(options.workdir, pathlib.Path(folder))
        timings = benchmark(paths, threads=tuple(map(int, options.threads.split(","))), runs=options.runs)
    timings = [dataclasses.replace(timing, model=pathlib.Path(timing.model).stem) for timing in timings]
    print(table(timings))
    if options.json:
        document = {
            "command": f"python -m benchmarks.exported_file --workdir=W --threads={options.threads} "
            f"--runs={options.runs}",
            "machine": {"architecture": platform.machine(), "cpus": os.cpu_count()},
            "ai_edge_litert": metadata.version("ai-edge-litert"),
            "results": [dataclasses.asdict(timing) for timing in timings],
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.json, json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
