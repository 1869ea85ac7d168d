"""How far the sum of a device's cost table is from the figure that its tool gives of the whole file.

    python -m benchmarks.device_tables --float_models=A.keras,B.keras --json=results/devices/tables.json

For each network and device the table is measured as a run measures it (`mmx_tf.metamix.on_device`), on the
float network's weights. Then whole files are judged: with each pair of bits everywhere, and with bits drawn
at random. The table is what the search counts, and a run judges its choice whole in any case.
"""

import pathlib
import statistics
import sys

import numpy as np

from benchmarks import command_line, measuring
from mmx_tf import devices
from mmx_tf.devices import kept

MODULE = "benchmarks.device_tables"
DEVICES = ("ethos-u55-128", "ethos-u65-256")


def choices_of(pairs: list, layers: int, *, random: int) -> dict[str, list[int]]:
    """Choices by name: "w4a8", one pair everywhere, for each of the pairs, then "random_0" and so on.

    Args:
      pairs: (weight bits, activation bits) of each candidate.
      layers: how many have bits to choose.
      random: how many choices are drawn, the same ones in every run.
    """
    found = {f"w{weights}a{bits}": [index] * layers for index, (weights, bits) in enumerate(pairs)}
    draws = np.random.default_rng(0).integers(len(pairs), size=(random, layers))
    return found | {f"random_{number}": draw.tolist() for number, draw in enumerate(draws)}


def row(table: float, figure: float) -> dict[str, float]:
    """One file: the sum of its costs by the table, the tool's figure, and the first over the second."""
    return {"table": table, "figure": figure, "ratio": table / figure}


def measured(search, device: devices.Device, budget: str, *, random: int) -> dict[str, dict]:
    """`row` of each of `choices_of`, on the search's network as it stands."""
    from mmx_tf.metamix.file_bytes import TrialFiles
    from mmx_tf.metamix.on_device import costs_on_device

    options = {name: device.wants[name] for name in ("weight_storage", "input_type", "output_type")}
    costs = costs_on_device(search, options, device=device, budget=budget)
    choices = choices_of(search.budget.pairs, len(search.budget.searched), random=random)
    rows = {}
    for name, choice in choices.items():
        figure = device.figure(budget, TrialFiles(search, choice, options).file())
        rows[name] = row(float(costs.of(choice)), figure)
    return rows


def main(argv: list[str] | None = None) -> int:
    """Measures, prints and writes; returns the exit code."""
    parser = command_line.argument_parser(MODULE, __doc__)
    parser.add_argument("--float_models", required=True, metavar="A,B", help="trained .keras or .h5 files")
    known = [name for name in devices.NAMES if name.startswith("ethos-u")]
    names = command_line.one_or_more_of(known)
    shown = ",".join(DEVICES)
    parser.add_argument(
        "--devices", type=names, default=list(DEVICES), metavar="A,B", help=f"default: {shown}"
    )
    for name, default in (("weight_bits", [8, 4, 2]), ("candidate_bits", [8, 4])):
        text = f"default: {','.join(map(str, default))}"
        parser.add_argument(f"--{name}", type=command_line.integers, default=default, help=text)
    parser.add_argument("--random", type=command_line.positive, default=4, help="default: %(default)s")
    options = parser.parse_args(argv)
    import mmx_tf

    results: dict = {}
    for path in map(pathlib.Path, options.float_models.split(",")):
        bits = {"bit_widths": tuple(options.candidate_bits), "weight_bits": tuple(options.weight_bits)}
        search = mmx_tf.augment(str(path), pixel_scaling=(1 / 127.5, -1), **bits)
        for name in options.devices:
            device = devices.named(name)
            with kept.using(kept.Kept()):
                for budget, unit in device.measures.items():
                    rows = measured(search, device, budget, random=options.random)
                    ratios = [one["ratio"] for one in rows.values()]
                    spread = {
                        "lowest": min(ratios),
                        "median": statistics.median(ratios),
                        "highest": max(ratios),
                    }
                    found = {"unit": unit, "ratios": spread, "files": rows}
                    results.setdefault(path.name, {}).setdefault(name, {})[budget] = found
                    told = ", ".join(f"{what} {value:.3f}" for what, value in spread.items())
                    print(f"{path.name} {name} {budget}: table over figure {told}", flush=True)
        if options.json:
            files = ",".join(pathlib.Path(one).name for one in options.float_models.split(","))
            command = command_line.command(MODULE, options, float_models=files)
            measuring.write_json(options.json, measuring.document(command, results=results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
