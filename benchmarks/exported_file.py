"""Latency and size of an exported file beside plain 8-bit exports of the same network, in one run.

    python -m mmx_tf.train --flagfile=mbv2.flags --data_dir=DIR --workdir=W --steps_per_epoch=2 \\
        --train_epochs=1 --batch_size=8
    python -m benchmarks.exported_file --workdir=W --json=results/export/latency.json

The peers are tfmot's default 8-bit export (quantize_model, then TFLiteConverter) and a post-training int8
export by AI Edge Quantizer (`mmx_tf.run.int8_baseline`), both of the workdir's float network.
`export.benchmark` runs all interleaved. How well a network was trained does not change its speed.
"""

import dataclasses
import pathlib
import sys
import tempfile

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot

import mmx_tf
from benchmarks import command_line, measuring
from mmx_tf.export.benchmark import benchmark, table
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run.int8_baseline import int8_baseline

MODULE = "benchmarks.exported_file"
CALIBRATION_IMAGES = 16


def tfmot_network(float_model, images: np.ndarray):
    """The network of tfmot's default 8-bit scheme; the images set its activation ranges."""
    quantized = tfmot.quantization.keras.quantize_model(float_model)
    quantized.compile(loss="mse")
    # One pass in training mode: without it every range is the initial one.
    quantized(images, training=True)
    return quantized


def tfmot_conversion(quantized) -> bytes:
    """tfmot's default 8-bit export of such a network."""
    converter = tf.lite.TFLiteConverter.from_keras_model(quantized)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def files_of(workdir: pathlib.Path, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the files into `folder`; the post-training one, the reference of the ratios, comes first."""
    recipe = Recipe.from_flagfile((workdir / "run.flags").read_text())
    fixed = mmx_tf.load_model(workdir / "fixed_model.keras")
    float_model = mmx_tf.load_model(workdir / "checkpoints" / "float.keras")
    data = mmx_tf.data.of_recipe(recipe)
    images = np.concatenate([batch for batch, _ in data.evaluation(batch_size=8, limit=CALIBRATION_IMAGES)])
    contents = {
        "post_training_int8": lambda: int8_baseline(float_model, images),
        "tfmot_8bit": lambda: tfmot_conversion(tfmot_network(float_model, images)),
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
    parser = command_line.argument_parser(MODULE, __doc__)
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="a finished workdir")
    parser.add_argument("--threads", type=command_line.integers, default=[1, 2], help="default: 1,2")
    parser.add_argument("--runs", type=command_line.positive, default=100, help="default: %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = files_of(options.workdir, pathlib.Path(folder))
        timings = benchmark(paths, threads=options.threads, runs=options.runs)
    timings = [dataclasses.replace(timing, model=pathlib.Path(timing.model).stem) for timing in timings]
    print(table(timings))
    if options.json:
        command = command_line.command(MODULE, options, workdir="W")
        results = [dataclasses.asdict(timing) for timing in timings]
        measuring.write_json(options.json, measuring.document(command, results=results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
