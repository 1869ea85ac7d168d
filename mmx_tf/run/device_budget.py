"""Budgets on a device: bits whose file meets them by the device's own figure, and how the finished file does.

The costs that the search counts were measured before it. When it has ended they are measured anew, on the
weights that it has trained, and the choice's file is judged whole before weight training. A file that takes
more than its budget has the budget of the table lowered by what the table was wrong, and the repair chooses
again, `ATTEMPTS` times at most. Where no choice is left that fits, the cheapest of those that were judged is
taken, and the run says so. Weight training changes how weights compress, so the bits leave `RESERVE` of a
budget free where they can; the finished file is judged again, and a warning says what it takes beyond one.

device_costs.json     in the workdir: what tools said (`mmx_tf.devices.kept`)
device/               what the device takes, such as model_vela.tflite or net.c
"""

import pathlib
from collections.abc import Mapping
from dataclasses import replace

from absl import logging

from mmx_tf import devices
from mmx_tf.budget.budget import UnreachableBudgetError
from mmx_tf.data.examples import Examples
from mmx_tf.devices import kept
from mmx_tf.export.atomic import write_atomically
from mmx_tf.folding.convert import convert
from mmx_tf.metamix import file_bytes
from mmx_tf.metamix.on_device import costs_on_device
from mmx_tf.metamix.rebuild import rebuild
from mmx_tf.metamix.search import SearchModel
from mmx_tf.metamix.selection import BitSelection
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run.export_stage import convert_options
from mmx_tf.run.run import Run

COSTS = "device_costs.json"
FOLDER = "device"
ATTEMPTS = 6
RESERVE = 0.005
"""Share of a budget that bits leave to weight training: 0.3% was what it took once, in 400 steps."""
TRIAL_IMAGES = 8
"""Training images that set the grids of an untrained trial."""


def measured(recipe: Recipe) -> dict[str, float]:
    """The budgets of a recipe that its device's tool measures, with their targets."""
    found = {name: getattr(recipe, name) for name in devices.named(recipe.device).measures}
    return {name: float(target) for name, target in found.items() if target}


def check_trial(recipe: Recipe, search: SearchModel, data: Examples) -> None:
    """Refuses a network whose file would not become what the device takes, by an untrained trial of it.

    Args:
      recipe, data: of the run.
      search: it is left untouched.

    Raises:
      ValueError: names the operator; also by `fold`, for a network that cannot be exported.
    """
    device = devices.named(recipe.device)
    if not device.is_choosy:
        return
    # Few bits of activations take the most operators.
    pairs = search.budget.pairs
    fewest = min(range(len(pairs)), key=lambda index: pairs[index][1])
    trial = rebuild(search, search.selection_of([fewest] * len(search.quantizers)))
    # Grids of real images: far-apart ones would be refused that no training gives.
    count = min(TRIAL_IMAGES, data.train_images)
    images, _ = next(iter(data.train(batch_size=count, seed=recipe.seed, augment=False)))
    trial(images)
    content = convert(trial, **convert_options(recipe, data.class_names))
    try:
        device.artefact(content)
    except ValueError as error:
        raise ValueError(f"--device={device.name}: {error}") from error


def selection(run: Run, search: SearchModel) -> BitSelection:
    """The search's bits, within the budgets by the device's figures as far as there are such bits."""
    recipe, device = run.recipe, devices.named(run.recipe.device)
    asked = measured(recipe)
    if not asked or not recipe.repair or not search.quantizers:
        return search.bit_selection(repair=recipe.repair)
    options = convert_options(recipe, run.data.class_names)
    found = {name: costs_on_device(search, options, device=device, budget=name) for name in asked}
    aims = {name: target * (1 - RESERVE) for name, target in asked.items()}
    limits, best = dict(aims), None
    for _ in range(ATTEMPTS):
        try:
            choice = _choice(search, found, limits)
        except UnreachableBudgetError as error:
            logging.info("--device=%s: %s", device.name, error)
            if best is not None:
                break
            # By the table none fits: what is the cheapest by it is judged.
            choice = next(iter(found.values())).cheapest
        figures = _figures(run, search, choice, options, asked)
        over = {name: figures[name] - aim for name, aim in aims.items()}
        excess = max(over[name] / aims[name] for name in aims)
        if best is None or excess < best[0]:
            best = excess, choice, figures
        for name, costs in found.items():
            logging.info(
                "--device=%s: %s of the chosen bits is %g by its tool, %g by the table, budget %g",
                device.name, name, figures[name], costs.of(choice), asked[name],
            )  # fmt: skip
            if over[name] > 0:
                limits[name] = min(limits[name] - over[name], aims[name] - figures[name] + costs.of(choice))
        if excess <= 0:
            break
    _, choice, figures = best
    if any(figures[name] > target for name, target in asked.items()):
        logging.warning(
            "--device=%s: no bits were found whose file meets the budget before weight training: %s. The run "
            "goes on with those that exceed it the least. Give more candidates of --weight_bits, or a larger "
            "budget.",
            device.name, _said(asked, figures),
        )  # fmt: skip
    return _with_figures(search.selection_of(choice), device, figures)


def _choice(search: SearchModel, found: Mapping, limits: Mapping) -> list[int]:
    """The repair's choice with other costs and targets of the budgets on the device."""
    target = search.targets[0]
    units = {costs.unit: (costs, limits[name]) for name, costs in found.items()}
    others = tuple(units.get(costs.unit, (costs, goal)) for costs, goal in target.budget.others)
    budget = replace(target.budget, others=others)
    return replace(target, budget=budget).choose(repair=True)


def _figures(run: Run, search: SearchModel, choice, options: Mapping, asked: Mapping) -> dict[str, float]:
    data = file_bytes.TrialFiles(search, choice, options).file()
    device = devices.named(run.recipe.device)
    return {name: device.figure(name, data) for name in asked}


def _with_figures(selected: BitSelection, device: devices.Device, figures: Mapping) -> BitSelection:
    """A selection whose costs on the device are the tool's figures, not the table's."""
    units = {device.measures[name]: value for name, value in figures.items()}
    costs = [replace(cost, value=float(units.get(cost.unit, cost.value))) for cost in selected.costs]
    return replace(selected, costs=tuple(costs))


def judged(run: Run, data: bytes) -> dict:
    """The entry `device` of the metrics, for the finished file; what the device takes is written.

    Returns:
      {} without a device; else `name`, `figures` (`Device.figures`), `files`, and for each budget that the
      device measures `figure`, `target` and whether it is `met`. `refused` says why the tool has none.
    """
    device = devices.named(run.recipe.device)
    if device.name == "bops":
        return {}
    found = {"name": device.name}
    try:
        figures, made = device.figures(data), device.artefact(data)
        budgets = {
            name: {"unit": device.measures[name], "figure": device.figure(name, data), "target": target}
            for name, target in measured(run.recipe).items()
        }
    except ValueError as error:
        logging.warning("--device=%s refuses the file: %s", device.name, error)
        return {"device": found | {"refused": str(error)}}
    kept.current().save()
    folder = run.workdir.path(FOLDER)
    for name, content in made.items():
        folder.mkdir(exist_ok=True)
        write_atomically(folder / name, content)
    for name, one in budgets.items():
        one["met"] = one["figure"] <= one["target"]
        if not one["met"]:
            logging.warning(
                "the finished file takes %g %s on %s, more than the %g of --%s: trained weights compress, or "
                "run, differently from those of the search. Give a budget smaller by the difference.",
                one["figure"], one["unit"], device.name, one["target"], name,
            )  # fmt: skip
    files = [f"{FOLDER}/{name}" for name in made]
    return {"device": found | {"figures": figures, "files": files, "budgets": budgets}}


def of_baseline(run: Run, data: bytes) -> dict:
    """The entry `device` of a baseline's facts: the same figures of its file."""
    device = devices.named(run.recipe.device)
    # Times of a CPU are taken side by side, and the C source is told in any case.
    if not device.measures or device.name == "cpu":
        return {}
    try:
        return {"device": {"name": device.name, "figures": device.figures(data)}}
    except ValueError as error:
        return {"device": {"name": device.name, "refused": str(error)}}


def _said(asked: Mapping, figures: Mapping) -> str:
    return ", ".join(f"{figures[name]:g} of --{name}={target:g}" for name, target in asked.items())


def costs_of(recipe: Recipe) -> kept.Kept:
    """What tools said in earlier runs of the recipe's workdir."""
    return kept.Kept(pathlib.Path(recipe.workdir) / COSTS)
