"""How long a search of MobileNet-v3 Large takes to begin, and whether it is traced only once.

    python -m benchmarks.tracing --json=results/performance/tracing.json        # about 15 minutes on 2 cores

`fit` runs three epochs of --steps steps: the first of bit-meta steps alone, then bit-search steps join in.
`first_call` is the first step, which traces everything, and the first one that searches, in which XLA
compiles what only a bit-search step needs. `traces` counts the traces of `model.train_function` over the
three epochs. Beside it, the same `fit` of the float network.
"""

import sys
import time

import numpy as np
import tensorflow as tf
import tf_keras as keras

import mmx_tf
from benchmarks import command_line
from benchmarks.ways_to_train import BIT_WIDTHS, BITS, compiled, random_batch
from mmx_tf import quiet

MODULE = "benchmarks.tracing"
CLASSES = 1000
EPOCHS = 3


class StepSeconds(keras.callbacks.Callback):
    """Seconds of every training step, in `seconds`."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the clock."""
        self._begin = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Reads it."""
        self.seconds.append(time.perf_counter() - self._begin)


def mobilenet_v3_large(image_size: int) -> keras.Model:
    """Keras's own network with random weights, logits out."""
    return keras.applications.MobileNetV3Large(
        (image_size, image_size, 3), weights=None, classes=CLASSES, classifier_activation=None
    )


def fitted(model: keras.Model, images, labels, *, steps: int) -> tuple[list[float], int]:
    """(seconds of every step of three epochs, number of traces of the training function)."""
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat(steps)
    clock = StepSeconds()
    model.fit(batches, epochs=EPOCHS, callbacks=[clock], verbose=0)
    return clock.seconds, model.train_function.experimental_get_tracing_count()


def row(seconds: list[float], traces: int, *, first_steps: list[int]) -> dict:
    """What is told of one fit; `first_steps` are the indices of those that trace or compile."""
    later = [second for index, second in enumerate(seconds) if index not in first_steps]
    return {
        "first_call": sum(seconds[index] for index in first_steps),
        "later_step": float(np.median(later)),
        "traces": traces,
        "step_seconds": seconds,
    }


def measured(image_size: int, *, batch_size: int, steps: int) -> dict[str, dict]:
    """The rows of the float network and of the search network of one image size."""
    images, labels = random_batch(batch_size, (image_size, image_size, 3), CLASSES)
    rows = {}
    model = compiled(mobilenet_v3_large(image_size), images, labels)
    rows["float"] = row(*fitted(model, images, labels, steps=steps), first_steps=[0])
    begin = time.perf_counter()
    search = mmx_tf.augment(model, bit_widths=BIT_WIDTHS, weight_bits=BITS)
    augment_seconds = time.perf_counter() - begin
    compiled(search, images, labels)
    # The first step of the second epoch, the one after `meta_epochs`, is the first that searches.
    rows["search"] = row(*fitted(search, images, labels, steps=steps), first_steps=[0, steps])
    rows["search"]["augment"] = augment_seconds
    for mine in rows.values():
        mine["ratio"] = mine["first_call"] / rows["float"]["first_call"]
    return rows


def table(title: str, rows: dict[str, dict]) -> str:
    """The rows as text."""
    lines = [f"{title:<24} {'first call s':>12} {'ratio':>7} {'later step s':>12} {'traces':>6}"]
    for name, mine in rows.items():
        numbers = f"{mine['first_call']:>12.1f} {mine['ratio']:>7.2f} {mine['later_step']:>12.3f}"
        lines.append(f"{name:<24} {numbers} {mine['traces']:>6}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the tables; returns the exit code."""
    parser = command_line.argument_parser(MODULE, __doc__)
    sizes = [64, 224]
    parser.add_argument(
        "--image_sizes", type=command_line.integers, default=sizes, metavar="A,B", help="default: 64,224"
    )
    command_line.add_batch_size(parser, default=4)
    parser.add_argument("--steps", type=command_line.positive, default=3, help="an epoch; default: 3")
    options = parser.parse_args(argv)
    if min(options.image_sizes) < 32:
        parser.error(f"--image_sizes={options.image_sizes}: the network takes images of 32 pixels or more.")
    if options.steps < 2:
        parser.error("--steps=1 leaves no later step to compare with; give at least 2.")
    quiet.set_up_logging()
    results = {}
    for size in options.image_sizes:
        title = f"MobileNetV3Large {size}x{size}"
        results[title] = measured(size, batch_size=options.batch_size, steps=options.steps)
        keras.backend.clear_session()
        print(table(title, results[title]), flush=True)
    command_line.write_results(MODULE, options, unit="s", results=results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
