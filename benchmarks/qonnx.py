"""Files as QONNX in qonnx's own executor: every code against the file, and BOPs by its inference_cost.

    python -m benchmarks.qonnx --json=results/export/qonnx.json             # minutes on 2 cores

A MobileNet-v2 of width 0.35 at 96 pixels with random weights, whose batch-norm statistics are those of real
image crops, at 8, 4 and 3 bits in turn and 4-bit weights. The executor runs one operator at a time in Python,
so that images are few.
"""

import time

import numpy as np
import tf_keras as keras

import mmx_tf
from benchmarks import command_line, measuring
from benchmarks.networks import crops, with_statistics_of
from mmx_tf.export import inspect
from mmx_tf.export.qonnx import qonnx_model
from mmx_tf.export.qonnx.exporter import FORMS
from mmx_tf.export.qonnx.running import bops_of, compared

SIZE = 96


def mobilenet_file(images: np.ndarray) -> bytes:
    """The .tflite of the network, with the statistics of `images`."""
    keras.utils.set_random_seed(0)
    network = keras.applications.MobileNetV2(
        input_shape=(SIZE, SIZE, 3), alpha=0.35, weights=None, classes=10, classifier_activation=None
    )
    with_statistics_of(network, images)
    search = mmx_tf.augment(
        network, bit_widths=(8, 4, 3), target_average_bits=5, pixel_scaling=(1 / 127.5, -1)
    )
    search(images, branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([i % 3 for i in range(len(search.quantizers))]))
    fixed(images, training=True)
    return mmx_tf.convert(mmx_tf.fold(fixed))


def measured(data: bytes, pixels: np.ndarray, form: str) -> dict:
    """What became of a file in one form."""
    begin = time.monotonic()
    made = qonnx_model(data, form=form, batch=len(pixels))
    written = time.monotonic() - begin
    (image,) = made.model.graph.input
    found = compared(data, made, {image.name: pixels})
    compared_in = time.monotonic() - begin - written
    one = qonnx_model(data, form=form).model
    return {
        "images": len(pixels),
        "tensors": found.tensors,
        "codes": found.codes,
        "differing": sum(found.differing.values()),
        "bops": sum(layer.bops for layer in inspect.layers(data, delegation=False)),
        "bops_of_qonnx": bops_of(one),
        "nodes": len(one.graph.node),
        "file_bytes": one.ByteSize(),
        "seconds_to_write": round(written, 1),
        "seconds_to_compare": round(compared_in, 1),
    }


def main() -> None:
    """The command line."""
    parser = command_line.argument_parser("benchmarks.qonnx", __doc__)
    parser.add_argument("--images", type=command_line.positive, default=2, help="default: %(default)s")
    options = parser.parse_args()
    images = crops(SIZE, 16)
    data = mobilenet_file(images)
    pixels = np.clip(np.rint((images[: options.images] + 1) * 127.5), 0, 255).astype(np.uint8)
    results = {"MobileNetV2 0.35 at 96 pixels": {form: measured(data, pixels, form) for form in FORMS}}
    for name, forms in results.items():
        for form, found in forms.items():
            print(f"{name}, {form}: {found}")
    if options.json:
        command = command_line.command("benchmarks.qonnx", options)
        measuring.write_json(options.json, measuring.document(command, results=results))


if __name__ == "__main__":
    main()
