"""The report's sections of what was logged over steps or epochs."""

import dataclasses
from collections.abc import Mapping, Sequence

from mmx_tf.notation import prefix_of
from mmx_tf.report import plots
from mmx_tf.report.facts import RunFacts
from mmx_tf.report.parts import Picture, picture

_SCORES = ("acc", "top1", "top5")


@dataclasses.dataclass(frozen=True)
class Curves:
    """The section of one phase."""

    heading: str
    figure: Picture


def curves(facts: RunFacts, history: Mapping, settings: Mapping) -> list[Curves]:
    """Curves of the search and of both trainings; phases of which nothing was recorded are left out."""
    found = []
    for phase, heading in (
        ("select", "Bit selection over time"),
        ("train", "Weight training over time"),
        ("float", "Training of the float network"),
    ):
        recorded = {name: values for name, values in (history.get(phase) or {}).items() if len(values)}
        panels = _panels(facts, recorded, settings.get(f"{phase}_epochs"))
        if panels:
            alt = f"{heading}: {'; '.join(panel.title for panel in panels)}."
            figure = picture(lambda theme, panels=panels: plots.curves_figure(panels, theme=theme), alt)
            found.append(Curves(heading, figure))
    return found


def _panels(facts: RunFacts, curves: Mapping[str, Sequence[float]], epochs: object) -> list[plots.Panel]:
    """One panel each for BOPs, losses, accuracies, and one for every other curve."""
    groups: dict[str, dict[str, Sequence[float]]] = {}
    for name, values in curves.items():
        low = name.lower()
        group = (
            "losses"
            if "loss" in low
            else "accuracy"
            if any(score in low for score in _SCORES)
            else name.replace("_", " ")
        )
        groups.setdefault(group, {})[name] = values
    panels = []
    for group, lines in groups.items():
        length = max(len(values) for values in lines.values())
        heading, level = group, None
        if group == "bops":
            factor, prefix = prefix_of(facts.bops)
            heading = f"{prefix}BOPs of the most probable bits"
            lines = {"bops": [value / factor for value in lines["bops"]]}
            level = ("budget", facts.target_bops / factor) if facts.target_bops else None
        x_label = "epoch" if str(length) == str(epochs) else "step"
        panels.append(plots.Panel(heading, lines, x_label=x_label, level=level))
    return panels
