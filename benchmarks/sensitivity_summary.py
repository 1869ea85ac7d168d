"""What mixed bits can gain over one bit-width, told from how much each layer's bits cost in loss.

Layer l has c_l operations and, at b_l bits, adds s_l 4^(-b_l) to the loss: the mean squared error of a
quantizer falls by a factor of 4 with each bit, and the loss is quadratic in small errors. A budget of b bits
on average, weighted by operations, is sum_l c_l b_l = C b with C = sum_l c_l. With w_l = c_l / C and the
sensitivity per operation r_l = s_l / c_l, Lagrange's condition for the smallest loss,

    s_l ln(4) 4^(-b_l) = mu c_l    for every l,    so    b_l = b0 + log2(r_l) / 2,

says that every operation then adds the same to the loss. The budget gives b0 = b - log2(G) / 2, where
G = prod_l r_l^(w_l) is the geometric mean, and the loss is

    sum_l s_l 4^(-b_l) = C 4^(-b0) = C G 4^(-b).

One bit-width everywhere adds sum_l s_l 4^(-b) = C A 4^(-b), with the arithmetic mean A = sum_l w_l r_l. So
the best allocation is worth log4(A / G) = log2(A / G) / 2 more bits everywhere. Bits are then any real
numbers and layers do not act on each other; candidates to choose from gain less than that. It is enough to
know s_l up to a factor that all layers share, such as from changes of the loss at one bit-width.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from benchmarks import measuring
from mmx_tf.budget import constrained
from mmx_tf.budget.budget import Budget
from mmx_tf.report import themes


def gain_in_bits(sensitivities: Sequence[float], operations: Sequence[float]) -> float:
    """log2(A / G) / 2: so many more bits everywhere the best allocation of a budget is worth.

    Args:
      sensitivities: s_l of every layer up to a factor they share, above 0.
      operations: c_l, above 0.
    """
    s, c = np.asarray(sensitivities, np.float64), np.asarray(operations, np.float64)
    ratios, shares = s / c, c / c.sum()
    return float((np.log2(shares @ ratios) - shares @ np.log2(ratios)) / 2)


def forecast(changes: np.ndarray, operations: Sequence[float]) -> dict:
    """The gain that measured changes of the loss tell.

    A change that is not above its standard error is taken to be that error, as the geometric mean needs
    numbers above 0. Layers that differ by noise alone have a gain above 0 too; the standard error of the
    gain, by leaving out one batch after the other (the jackknife), says how far that matters.

    Args:
      changes: (batches, L), of the loss of each batch, with one layer at fewer bits; two batches at least.
      operations: L multiply-accumulates.

    Returns:
      `gain_bits` and its `standard_error`, `ratio` A / G, and `below_noise`, the number of layers whose
      change was replaced by its error.
    """
    batches = len(changes)
    errors = np.maximum(measuring.standard_errors(changes), np.finfo(np.float64).tiny)

    def gain(rows):
        return gain_in_bits(np.maximum(rows.mean(axis=0), errors), operations)

    parts = np.array([gain(np.delete(changes, i, axis=0)) for i in range(batches)])
    found = gain(changes)
    return {
        "gain_bits": found,
        "standard_error": float(np.sqrt((batches - 1) * np.var(parts))),
        "ratio": 4.0**found,
        "below_noise": int(np.sum(changes.mean(axis=0) < errors)),
    }


def additive_choice(budget: Budget, losses: np.ndarray) -> list[int]:
    """The selection within a budget whose layers' changes of the loss have the smallest sum.

    It is an integer linear program, which `mmx_tf.budget.constrained` solves by scipy's milp. Before, the
    changes of each layer are brought to the closest ones that no more bits make larger, so that noise gives
    no layer fewer bits than fit.

    Args:
      budget: with one bit-width for weights.
      losses: (L, B) changes, in the order of the budget's candidates.
    """
    order = np.argsort(budget.bit_widths)
    scores = np.empty(np.shape(losses))
    for layer, row in enumerate(np.asarray(losses, np.float64)):
        scores[layer, order] = -isotonic_regression(row[order], increasing=False).x
    return constrained.best_choice(budget.constraints, scores, budget.bit_widths)


def figure(document: Mapping, title: str) -> Figure:
    """Left the layers' sensitivities per operation, right the losses of whole selections."""
    theme = themes.LIGHT
    figure = Figure(figsize=(12, 5), facecolor=theme.paper, layout="constrained")
    figure.suptitle(title, color=theme.ink)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    layers, lowest = document["layers"], min(document["forecast"], key=int)
    for place, (bits, found) in enumerate(document["forecast"].items()):
        changes = np.array([[layer["candidates"][bits][k] for k in _MEASURED] for layer in layers])
        per_operation = 1e6 * changes.T / np.array([layer["macs"] for layer in layers])
        left.errorbar(
            np.arange(len(layers)) + 0.12 * place, per_operation[0], per_operation[1], fmt="o", markersize=4,
            color=theme.lines[place % len(theme.lines)],
            label=f"{bits} bits: {found['gain_bits']:.2f} bits to gain",
        )  # fmt: skip
    largest = max(abs(layer["candidates"][lowest]["change"]) / layer["macs"] for layer in layers)
    left.set_yscale("symlog", linthresh=1e4 * largest or 1.0)
    left.set_xticks(range(len(layers)), [layer["name"] for layer in layers], rotation=90, fontsize=8)
    left.set_ylabel("change of the loss per million operations", color=theme.ink)
    left.legend(frameon=False, labelcolor=theme.ink)
    names = list(document["selections"])
    for place, name in enumerate(names):
        row = document["selections"][name]
        colour = theme.muted if name.startswith("random") else theme.lines[0]
        right.errorbar(row["change"], place, xerr=row["standard_error"], fmt="o", color=colour)
        right.plot(row["predicted_change"], place, "|", color=theme.ink, markersize=10)
    right.axvline(0, color=theme.muted, linewidth=1)
    right.set_yticks(range(len(names)), names, fontsize=8)
    right.set_xlabel(f"loss beside {document['beside']}; | as the layers alone say", color=theme.ink)
    for axes in (left, right):
        axes.grid(color=theme.grid)
        axes.set_axisbelow(True)
    return figure


_MEASURED = ("change", "standard_error")
