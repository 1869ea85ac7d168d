"""What mixed bits can win on a network: how much each layer's bits cost in loss, on a meta-state.

    python -m benchmarks.sensitivity --workdir=W --json=OUT --png=OUT

W is the workdir of a run whose bit selection is done. Each searched layer is run alone at each candidate, all
others at --reference_bits, and the loss of a batch is compared with that of the same batch at
--reference_bits everywhere. Batch norm takes the statistics of the batch, as in training. From these changes
follow

  how many bits mixed bits can gain over one bit-width (`benchmarks.sensitivity_summary` derives it),
  the best selection within W's budget if the changes of layers just add up: a baseline for a search.

That selection, W's own, those of --also, the largest candidate that fits everywhere and random ones are then
judged on other training images, as many. --selections=DIR writes the additive selection and the random ones
as files that `python -m mmx_tf.train --bit_selection=FILE` takes.
"""

import argparse
import pathlib
import sys

import numpy as np

from benchmarks import command_line, measuring, meta_state
from benchmarks.sensitivity_summary import additive_choice, figure, forecast
from mmx_tf.metamix.sensitivity import losses_at
from mmx_tf.run.given_selection import random_choice
from mmx_tf.run.reasons import training_batches
from mmx_tf.training import task

MODULE = "benchmarks.sensitivity"
ADDITIVE = "additive"


def layers_alone(search, batches, loss, *, reference: int) -> tuple[np.ndarray, float, int]:
    """Changes of the loss with one layer at another candidate.

    Args:
      search: at its meta-state, with one bit-width for weights.
      batches, loss: as for `mmx_tf.metamix.sensitivity.sensitivities`.
      reference: index of the candidate of all other layers.

    Returns:
      (batches, L, B) changes, 0 for the reference; the mean loss with it everywhere; the number of images.
    """
    layers, branches = len(search.budget.searched), len(search.budget.bit_widths)
    everywhere = [reference] * layers
    places = [(i, b) for i in range(layers) for b in range(branches) if b != reference]
    choices = [everywhere, *([*everywhere[:i], b, *everywhere[i + 1 :]] for i, b in places)]
    losses, images = losses_at(search, choices, batches, loss)
    changes = np.zeros((len(losses), layers, branches))
    for place, (layer, branch) in enumerate(places, start=1):
        changes[:, layer, branch] = losses[:, place] - losses[:, 0]
    return changes, float(losses[:, 0].mean()), images


def candidates_of(budget, own: dict, changes: np.ndarray, seeds: list[int]) -> dict[str, list[int]]:
    """The choices that are judged, by name; the first is what the others stand beside.

    Args:
      budget: with a target in BOPs.
      own: choices of workdirs by name.
      changes: (L, B) mean changes of the loss.
      seeds: of the random ones.
    """
    fitting = {}
    for index, bits in enumerate(budget.bit_widths):
        everywhere = [index] * len(budget.searched)
        if budget.meets(everywhere):
            fitting[bits] = everywhere
    bits = max(fitting)
    return {
        f"{bits} bits": fitting[bits],
        ADDITIVE: additive_choice(budget, changes),
        **own,
        **{f"random {seed}": random_choice(budget, seed) for seed in seeds},
    }


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = command_line.argument_parser(MODULE, __doc__)
    meta_state.add_options(parser)
    positive = command_line.positive
    parser.add_argument("--images", type=positive, default=4096, help="default: %(default)s")
    parser.add_argument("--reference_bits", type=positive, help="a candidate; default: the largest")
    parser.add_argument(
        "--draw_seeds", type=command_line.integers, default=list(range(10)), help="default: 0,1,..,9"
    )
    parser.add_argument("--selections", type=pathlib.Path, metavar="DIR", help="where selections are written")
    options = parser.parse_args(argv)
    if min(options.draw_seeds) < 0:
        parser.error(f"--draw_seeds={','.join(map(str, options.draw_seeds))}: numbers of 0 or more.")
    return options


def main(argv: list[str] | None = None) -> int:
    """Measures, prints and writes; returns the exit code."""
    options = parsed(argv)
    search, data, recipe, own = meta_state.opened(options)
    reference, skipped = _checked(options, search.budget, data, recipe)
    widths = search.budget.bit_widths
    loss = task.loss(recipe.told_task, search.network)
    batches = training_batches(recipe, data, options.images)
    changes, at_reference, images = layers_alone(search, batches, loss, reference=widths.index(reference))
    forecasts = _forecasts(search.budget, changes, reference)
    means = changes.mean(axis=0)
    choices = candidates_of(search.budget, own, means, options.draw_seeds)
    others = training_batches(recipe, data, options.images, skip=skipped)
    selections = judged(search, choices, others, loss, means)
    document = measuring.document(
        command_of(options),
        target_bops=search.budget.target_bops,
        images=images,
        reference_bits=reference,
        reference_loss=at_reference,
        forecast=forecasts,
        beside=next(iter(choices)),
        selections=selections,
        layers=_layers(search.budget, means, measuring.standard_errors(changes)),
    )
    if options.selections:
        options.selections.mkdir(parents=True, exist_ok=True)
        for name, choice in choices.items():
            if name == ADDITIVE or name.startswith("random "):
                search.selection_of(choice).save(options.selections / f"{name.replace(' ', '_')}.json")
    if options.png:
        measuring.write_png(options.png, figure(document, options.workdir.name))
    if options.json:
        measuring.write_json(options.json, document)
    return 0


def judged(search, choices: dict[str, list[int]], batches, loss, means: np.ndarray) -> dict[str, dict]:
    """What each choice loses beside the first, on images on which none was chosen; printed too.

    Args:
      search, batches, loss: as for `layers_alone`.
      choices: by name.
      means: (L, B) changes of the loss of layers alone, whose sums are `predicted_change`.
    """
    losses, _ = losses_at(search, list(choices.values()), batches, loss)
    differences = losses - losses[:, :1]
    alone = [means[np.arange(len(choice)), choice].sum() for choice in choices.values()]
    found, widths = {}, search.budget.bit_widths
    for place, (name, choice) in enumerate(choices.items()):
        row = found[name] = {
            "bits": [widths[branch] for branch in choice],
            "bops": search.budget.bops_of(choice),
            "loss": float(losses[:, place].mean()),
            "change": float(differences[:, place].mean()),
            "standard_error": float(measuring.standard_errors(differences)[place]),
            "predicted_change": float(alone[place] - alone[0]),
        }
        print(
            f"{name}: loss {row['loss']:.4f}, {row['change']:+.4f} ({row['standard_error']:.4f}) beside "
            f"{next(iter(choices))}, {row['predicted_change']:+.4f} as the layers alone say"
        )
    return found


def _checked(options: argparse.Namespace, budget, data, recipe) -> tuple[int, int]:
    """The reference's bits and the number of batches to measure on; ends the program where they cannot be."""
    widths, size = budget.bit_widths, recipe.batch_size
    bits, count = options.reference_bits or max(widths), options.images // size
    if bits not in widths:
        sys.exit(f"--reference_bits={bits}: one of {', '.join(map(str, widths))}, the run's candidates.")
    if bits == min(widths):
        sys.exit(
            f"--reference_bits={bits}: not the smallest candidate, as changes of the loss are told of it."
        )
    if count < 2 or 2 * count > data.train_images // size:
        sys.exit(
            f"--images={options.images}: 2 batches of {size} at least, for a standard error, and half of the "
            f"{data.train_images} training images at most, as selections are judged on others."
        )
    if not any(budget.meets([index] * len(budget.searched)) for index in range(len(widths))):
        sys.exit(f"no candidate of {options.workdir} fits its budget everywhere, to stand beside.")
    return bits, count


def _forecasts(budget, changes: np.ndarray, reference: int) -> dict[str, dict]:
    macs, found = [cost.macs for cost in budget.searched], {}
    for index, bits in enumerate(budget.bit_widths):
        if bits >= reference:
            continue
        row = found[str(bits)] = forecast(changes[:, :, index], macs)
        print(
            f"{bits} bits: arithmetic / geometric mean {row['ratio']:.3f}, {row['gain_bits']:.3f} bits to "
            f"gain (standard error {row['standard_error']:.3f}); {row['below_noise']} of {len(macs)} layers "
            "below the noise"
        )
    return found


def _layers(budget, means: np.ndarray, errors: np.ndarray) -> list[dict]:
    def candidates(layer):
        return {
            str(bits): {"change": float(means[layer, i]), "standard_error": float(errors[layer, i])}
            for i, bits in enumerate(budget.bit_widths)
        }

    return [
        {"name": cost.name, "kind": cost.kind, "macs": cost.macs, "candidates": candidates(layer)}
        for layer, cost in enumerate(budget.searched)
    ]


def command_of(options: argparse.Namespace) -> str:
    """The command line, with paths of this machine left out."""
    return meta_state.command(MODULE, argparse.Namespace(**vars(options) | {"selections": None}))


if __name__ == "__main__":
    sys.exit(main())
