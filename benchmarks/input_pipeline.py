"""How many images a second the input pipeline makes for training, beside decoding them and nothing else.

    python -m benchmarks.input_pipeline --data_dir=DIR --json=OUT   # minutes

Bare decoding reads the same shuffled stream of stored images and decodes each one whole by `decode_jpeg` with
its defaults; it neither crops, resizes nor makes batches. Both may work on as many images at once as tf.data
finds best. A small dataset is repeated within a round, so that not the start of a pipeline is measured.
"""

import dataclasses
import functools
import math
import sys

import tensorflow as tf

from benchmarks import command_line, measuring
from mmx_tf import quiet
from mmx_tf.data import ImageData, load
from mmx_tf.errors import DataError

MODULE = "benchmarks.input_pipeline"
PIPELINE, BARE = "pipeline", "bare_decoding"


def repeated(data: ImageData, *, images: int) -> ImageData:
    """The dataset with its training images repeated until there are at least so many."""
    split = data.source.train
    times = math.ceil(images / split.count)
    longer = dataclasses.replace(
        split, count=times * split.count, stream=lambda seed: split.stream(seed).repeat(times)
    )
    return dataclasses.replace(data, source=dataclasses.replace(data.source, train=longer))


def bare_decoding(data: ImageData) -> tf.data.Dataset:
    """Training images as they are stored, decoded and nothing else: (uint8 [h, w, C], int32)."""
    channels = data.source.channels
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    stream = data.source.train.stream(0)
    decoded = stream.map(
        lambda stored, label: (tf.io.decode_jpeg(stored, channels=channels), label),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return decoded.prefetch(tf.data.AUTOTUNE).with_options(options)


def read_through(dataset: tf.data.Dataset) -> int:
    """Reads all elements, without leaving TensorFlow, and counts them."""
    return int(dataset.reduce(tf.constant(0, tf.int64), lambda count, *_: count + 1))


def measured(data: ImageData, *, batch_size: int, rounds: int) -> dict[str, dict]:
    """The summary of pipeline and bare decoding in seconds an image, each with its `images_per_second`.

    `throughput_ratio` is the median of the rounds' images a second, relative to bare decoding.
    """
    images = {
        PIPELINE: data.train_images // batch_size * batch_size,
        BARE: data.train_images,
    }
    datasets = {PIPELINE: data.train(batch_size=batch_size, seed=0), BARE: bare_decoding(data)}
    functions = {name: functools.partial(read_through, dataset) for name, dataset in datasets.items()}
    measuring.interleaved(functions, rounds=1)
    seconds = {
        name: [second / images[name] for second in values]
        for name, values in measuring.interleaved(functions, rounds=rounds).items()
    }
    summary = measuring.summarized(seconds, reference=BARE)
    for name, row in summary.items():
        row["images_per_second"] = 1 / row["median"]
        row["throughput_ratio"] = measuring.ratio_of(seconds[BARE], seconds[name])
    return summary


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the tables; returns the exit code."""
    parser = command_line.argument_parser(MODULE, __doc__, rounds=15)
    parser.add_argument("--dataset", default="imagenet2012", help="default: %(default)s")
    parser.add_argument("--data_dir", default="", help="folder of prepared TFDS datasets")
    parser.add_argument(
        "--image_size", type=command_line.integers, default=[224, 128], help="pixels; default: 224,128"
    )
    command_line.add_batch_size(parser)
    parser.add_argument(
        "--images",
        type=command_line.positive,
        # An epoch begins with a cost of its own, which shows in short rounds and not in epochs of ImageNet.
        default=8192,
        help="images of a round; default: %(default)s",
    )
    options = parser.parse_args(argv)
    quiet.set_up_logging()
    results = {}
    for size in options.image_size:
        try:
            data = load(options.dataset, data_dir=options.data_dir, image_size=size)
        except DataError as error:
            parser.error(str(error))
        if data.source.train.stream(0).element_spec[0].dtype != tf.string:
            parser.error(f"--dataset={options.dataset} holds pixels, which nobody has to decode.")
        case = f"{data.image_size} px"
        results[case] = measured(
            repeated(data, images=max(options.images, options.batch_size)),
            batch_size=options.batch_size,
            rounds=options.rounds,
        )
        print(measuring.table(case, results[case]))
        for name, row in results[case].items():
            rate, share = row["images_per_second"], row["throughput_ratio"]
            print(f"{name}: {rate:.0f} images/s, {share:.3f} of bare decoding", flush=True)
    command_line.write_results(MODULE, options, unit="s", results=results, data_dir="DIR")
    return 0


if __name__ == "__main__":
    sys.exit(main())
