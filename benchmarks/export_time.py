"""How long the export of a MobileNet-v2 takes, and how long the exports of others take for the same network.

    python -m benchmarks.export_time --json=results/performance/export_time.json        # about 15 minutes

`fold` and `convert` make the file, `verify` compares it with the folded network on --images images; the
peers have no such step. `post_training_int8` is TFLiteConverter's post-training quantization with as many
calibration images, `tfmot_8bit` its conversion of the network that tfmot's default scheme trains. Networks
have random weights: they do not change how long an export takes. Each part is warm, all are interleaved.
"""

import sys

import tensorflow as tf
import tf_keras as keras

import mmx_tf
from benchmarks import command_line, measuring
from benchmarks.exported_file import tfmot_conversion, tfmot_network
from benchmarks.ways_to_train import BIT_WIDTHS, BITS, random_batch

MODULE = "benchmarks.export_time"
NETWORKS = {
    "mobilenet_v2_32": {"input_shape": (32, 32, 3), "num_classes": 10, "width": 0.5},
    "mobilenet_v2_224": {"input_shape": (224, 224, 3), "num_classes": 1000, "width": 1.0},
}
REFERENCE = "tfmot_8bit"


def post_training_int8(network: keras.Model, images: tf.Tensor) -> bytes:
    """TFLiteConverter's full integer quantization, calibrated on the images."""
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def parts(name: str, *, images: int) -> dict:
    """What is timed: name -> function without arguments."""
    keras.utils.set_random_seed(0)
    settings = NETWORKS[name]
    network = mmx_tf.models.build("mobilenet_v2", **settings)
    batch, labels = random_batch(images, settings["input_shape"], settings["num_classes"])
    search = mmx_tf.augment(network, bit_widths=BIT_WIDTHS, weight_bits=BITS)
    search(batch, branch=0)
    branch = BIT_WIDTHS.index(BITS)
    fixed = mmx_tf.rebuild(search, search.selection_of([branch] * len(search.quantizers)))
    fixed(batch)
    folded = mmx_tf.fold(fixed)
    data = mmx_tf.convert(folded)
    evaluation = tf.data.Dataset.from_tensors((batch, labels))
    by_tfmot = tfmot_network(network, batch)
    return {
        "fold": lambda: mmx_tf.fold(fixed),
        "convert": lambda: mmx_tf.convert(folded),
        "verify": lambda: mmx_tf.verify(folded, data, evaluation),
        "post_training_int8": lambda: post_training_int8(network, batch),
        "tfmot_8bit": lambda: tfmot_conversion(by_tfmot),
    }


def measured(name: str, *, images: int, rounds: int) -> dict[str, dict]:
    """The summary of all parts for one network, and of fold and convert together."""
    functions = parts(name, images=images)
    first_calls = {part: measuring.seconds_of(function) for part, function in functions.items()}
    seconds = measuring.interleaved(functions, rounds=rounds)
    seconds["fold_and_convert"] = [
        sum(pair) for pair in zip(seconds["fold"], seconds["convert"], strict=True)
    ]
    first_calls["fold_and_convert"] = first_calls["fold"] + first_calls["convert"]
    summary = measuring.summarized(seconds, reference=REFERENCE)
    return {part: row | {"first_call": first_calls[part]} for part, row in summary.items()}


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the tables; returns the exit code."""
    parser = command_line.argument_parser(MODULE, __doc__, rounds=3)
    command_line.add_choice(parser, "--networks", NETWORKS)
    parser.add_argument("--images", type=command_line.positive, default=16, help="default: %(default)s")
    options = parser.parse_args(argv)
    results = {}
    for name in options.networks:
        results[name] = measured(name, images=options.images, rounds=options.rounds)
        print(measuring.table(name, results[name]), flush=True)
    command_line.write_results(MODULE, options, unit="s", results=results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
