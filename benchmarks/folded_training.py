"""What the last steps of weight training gain when they are taken on the folded graph.

    python -m benchmarks.folded_training --float_model=FILE.keras --dataset=cifar10 --data_dir=DIR \\
        --json=results/export/folded_training.json          # about 45 minutes a seed on 2 cores

For each weight bit-width and seed a network, all searched layers at the same activation bits, is fine-tuned
for --steps steps. From that state --more_steps more are taken, each time with the same batches, optimizer
state and learning rates: on the fixed network, on the fixed network with its batch-norm statistics frozen and
nothing else (which part of a gain is the freezing?), and on the folded graph of each weight storage. One
cosine schedule falls to zero over both parts, as with `mmx_tf.train --folded_epochs`. Measured are the
accuracies of the fixed network and of its folded twin, and how often the two name the same class. Results are
written after every network; the same command continues.
"""

import argparse
import json
import sys
import time

import numpy as np
import tf_keras as keras

import mmx_tf
from benchmarks import command_line, measuring
from mmx_tf.choices import STORAGES
from mmx_tf.network import graph
from mmx_tf.network.tracing import build_before_tracing
from mmx_tf.run.float_network import gives_probabilities
from mmx_tf.training.optimizers import cosine_schedule, sgd

MODULE = "benchmarks.folded_training"
MEASURED = ("fixed_top1", "folded_top1", "same_class")
SETTINGS = (
    "dataset", "activation_bits", "steps", "more_steps", "learning_rate", "batch_size", "eval_images",
)  # fmt: skip


def fixed_network(float_model, data, *, weight_bits: int, activation_bits: int, batch_size: int, seed: int):
    """A fixed network whose searched layers all have the same bits, with step sizes of one batch."""
    keras.utils.set_random_seed(seed)
    search = mmx_tf.augment(
        float_model, bit_widths=(activation_bits, 4 if activation_bits == 8 else 8), weight_bits=weight_bits
    )
    images, _ = next(iter(data.train(batch_size=batch_size, seed=seed)))
    search(images, branch=0)
    return mmx_tf.rebuild(search, search.selection_of([0] * len(search.quantizers)))


def with_frozen_statistics(fixed: keras.Model) -> keras.Model:
    """The fixed network with the running statistics in training too; its bias stays unrounded."""

    def call(layer, args, kwargs):
        if isinstance(layer, keras.layers.BatchNormalization):
            return layer(*args, training=False)
        return layer(*args, **kwargs)

    inputs = keras.Input(fixed.input_shape[1:])
    return keras.Model(inputs, graph.replay(fixed, inputs, call))


def fitted(model, optimizer, batches) -> float:
    """Takes one step for each batch; returns the seconds a step took, tracing included."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not gives_probabilities(model))
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    build_before_tracing(model, batches)
    begin = time.monotonic()
    model.fit(batches, verbose=2)
    return round((time.monotonic() - begin) / int(batches.cardinality()), 3)


def compared(fixed, weight_storage: str, evaluation) -> dict[str, float]:
    """Top-1 of a fixed network and of its folded twin, and the share of images with the same class."""
    folded = mmx_tf.fold(fixed, weight_storage=weight_storage)
    rows = [
        (labels, fixed.predict_on_batch(images).argmax(1), folded.predict_on_batch(images).argmax(1))
        for images, labels in evaluation
    ]
    labels, ours, theirs = (np.concatenate(column) for column in zip(*rows, strict=True))
    shares = ((ours == labels).mean(), (theirs == labels).mean(), (ours == theirs).mean())
    return dict(zip(MEASURED, map(float, shares), strict=True))


def tried(float_model, data, options, *, weight_bits: int, seed: int) -> list[dict]:
    """One row for each weight storage and way to take the last steps."""
    fixed = fixed_network(
        float_model,
        data,
        weight_bits=weight_bits,
        activation_bits=options.activation_bits,
        batch_size=options.batch_size,
        seed=seed,
    )
    schedule = cosine_schedule(options.learning_rate, steps=options.steps + options.more_steps)
    optimizer = sgd(fixed.trainable_variables, schedule, momentum=0.9, nesterov=True, weight_decay=1e-5)
    optimizer.build(fixed.trainable_variables)
    evaluation = data.evaluation(batch_size=options.batch_size, limit=options.eval_images)

    def batches(seed, steps):
        return data.train(batch_size=options.batch_size, seed=seed).repeat().take(steps)

    fitted(fixed, optimizer, batches(seed, options.steps))
    variables = [*fixed.variables, *optimizer.variables]
    state = [variable.numpy() for variable in variables]
    rows = []

    def last_steps(where, storages, model=None):
        for variable, value in zip(variables, state, strict=True):
            variable.assign(value)
        seconds = fitted(model, optimizer, batches(seed + 1000, options.more_steps)) if model else None
        for weight_storage in storages:
            rows.append(
                {"weight_bits": weight_bits, "seed": seed, "weight_storage": weight_storage, "where": where}
                | compared(fixed, weight_storage, evaluation)
                | {"seconds_per_step": seconds}
            )
            print(rows[-1], flush=True)

    last_steps("before", options.weight_storages)
    last_steps("on fixed", options.weight_storages, fixed)
    last_steps("frozen statistics", options.weight_storages, with_frozen_statistics(fixed))
    for weight_storage in options.weight_storages:
        on_folded_graph = mmx_tf.fold_for_training(fixed, weight_storage=weight_storage)
        last_steps("on the folded graph", [weight_storage], on_folded_graph)
    return rows


def table(rows: list[dict]) -> str:
    """Means over seeds, in percent, one line for each network and way."""
    groups: dict[tuple, list] = {}
    for row in rows:
        key = (row["weight_bits"], row["weight_storage"], row["where"])
        groups.setdefault(key, []).append([row[name] for name in MEASURED])
    lines = [f"{'bits':>4} {'storage':<8} {'last steps':<22} {'fixed':>7} {'folded':>7} {'same class':>10}"]
    for (bits, storage, where), values in groups.items():
        fixed, folded, same = 100 * np.mean(values, axis=0)
        lines.append(f"{bits:>4} {storage:<8} {where:<22} {fixed:>7.2f} {folded:>7.2f} {same:>10.2f}")
    return "\n".join(lines)


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = command_line.argument_parser(MODULE, __doc__)
    command_line.add_trained_network(parser)
    parser.add_argument("--weight_bits", type=command_line.integers, default=[4, 3, 2], help="default: 4,3,2")
    command_line.add_choice(parser, "--weight_storages", STORAGES)
    parser.add_argument(
        "--activation_bits", type=command_line.positive, default=4, help="default: %(default)s"
    )
    parser.add_argument("--seeds", type=command_line.integers, default=[0], help="default: 0")
    parser.add_argument("--steps", type=command_line.positive, default=150, help="default: %(default)s")
    parser.add_argument("--more_steps", type=command_line.positive, default=60, help="default: %(default)s")
    parser.add_argument("--learning_rate", type=float, default=0.02, help="default: %(default)s")
    command_line.add_batch_size(parser)
    parser.add_argument(
        "--eval_images", type=command_line.positive, default=5000, help="default: %(default)s"
    )
    return parser.parse_args(argv)


def command(options: argparse.Namespace) -> str:
    """The command line without the paths of this machine."""
    data_dir = "DIR" if options.data_dir else ""
    return command_line.command(MODULE, options, float_model=options.float_model.name, data_dir=data_dir)


def main(argv: list[str] | None = None) -> int:
    """Trains what is not in the results yet and prints the table; returns the exit code."""
    options = parsed(argv)
    settings = {name: getattr(options, name) for name in SETTINGS}
    settings |= {"float_model": options.float_model.name, "weight_storages": options.weight_storages}
    document = {"settings": settings, "rows": []}
    if options.json and options.json.exists():
        document = json.loads(options.json.read_text())
        if document["settings"] != settings:
            sys.exit(
                f"{options.json} was made with {document['settings']}, not {settings}; give a new --json."
            )
    earlier = document.pop("provenance", None)
    float_model = mmx_tf.load_model(options.float_model)
    data = mmx_tf.data.load(options.dataset, data_dir=options.data_dir, image_size=float_model.input_shape[1])
    done = {(row["weight_bits"], row["seed"]) for row in document["rows"]}
    for seed in options.seeds:
        for weight_bits in options.weight_bits:
            if (weight_bits, seed) in done:
                continue
            document["command"] = command(options)
            document["rows"] += tried(float_model, data, options, weight_bits=weight_bits, seed=seed)
            if options.json:
                measuring.write_json(options.json, document, earlier=earlier)
    print(table(document["rows"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
