"""What of a step's logs people want to see, in units that they read: MBOPs, kB, per cent.

>>> told({"loss": 1.25, "accuracy": 0.5, "bops": 62.1e6}, [Told("BOPs", ("bops",), (60e6,))])
['loss 1.25', '62.1 MBOPs', 'accuracy 50.00%']
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from mmx_tf.notation import amount, percent

MEASURES = {"accuracy": "accuracy", "mean_absolute_error": "mean absolute error"}
"""Log of a metric -> its words."""
SHARES = ("accuracy",)


@dataclasses.dataclass(frozen=True)
class Told:
    """A cost that a search has in its logs.

    Attributes:
      unit: "BOPs", "bytes of RAM", "us".
      names: of the logs, one for each target.
      goals: the budgets, in the same order; () without budgets.
    """

    unit: str
    names: tuple[str, ...]
    goals: tuple[float, ...] = ()


def told(logs: Mapping[str, float], costs: Sequence[Told] = ()) -> list[str]:
    """The figures of a step or an epoch, the more important ones first.

    Args:
      logs: Keras's.
      costs: that are among them.
    """
    figures = [f"loss {logs['loss']:.4g}"] if "loss" in logs else []
    figures += [amount([logs[name] for name in cost.names], cost.unit) for cost in costs]
    for kind, before in (("", ""), ("val_", "validation ")):
        for name, words in MEASURES.items():
            if kind + name in logs:
                value = logs[kind + name]
                figures.append(f"{before}{words} {percent(value) if name in SHARES else f'{value:.4g}'}")
    return figures


def goals(costs: Iterable[Told]) -> str:
    """The budgets, for the log of a phase's beginning: '60 MBOPs, 24 kB of RAM'; '' without any."""
    return ", ".join(amount(cost.goals, cost.unit) for cost in costs if cost.goals)
