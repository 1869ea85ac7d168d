"""The scores of the four forms of a run's network: how `metrics.json` records them, and how they are worded.

For a classification, `metrics.json` has `float_top1`, `fixed_top1`, `folded_top1`, `tflite_top1` and
`top1_agreement`. For every other task it has `task`, `agreement` and `quality`: each metric of
`export.comparing.quality` with its values {"float", "fixed", "folded", "tflite"}. A binary task has the keys
of a classification too; they hold its binary accuracy.

    scores = scores_of(metrics)
    scores[0].words, scores[0].text(scores[0].values["tflite"])        # "binary accuracy", "97.25%"
"""

import dataclasses
from collections.abc import Mapping

from mmx_tf.export.comparing.quality import MEASURES
from mmx_tf.notation import percent

FORMS = {
    "float": "float network",
    "fixed": "fixed-bit network",
    "folded": "folded integer twin",
    "tflite": ".tflite file",
}
FLOAT_STATE = ("float_top1", "float_quality")
"""The keys of a workdir's state that hold the float network's scores."""
NAMED = {
    "classification": ("same class", "images"),
    "binary": ("same class", "images"),
    "multi_label": ("same decision", "labels"),
    "regression": ("same number", "numbers"),
    "segmentation": ("same class", "pixels"),
}
"""By task: what the file and the folded network may have in common, and what is counted."""


@dataclasses.dataclass(frozen=True)
class Score:
    """One metric of all forms of a network.

    Attributes:
      words: the metric's name.
      share: whether its values are shares of 1, which are shown in percent. Other values are plain numbers;
        those of an error are in the labels' unit.
      less_is_better: whether the metric is an error.
      values: form (a key of `FORMS`) -> value. A form without a known value is left out.
    """

    words: str
    share: bool
    less_is_better: bool
    values: Mapping[str, float]

    def text(self, value: float) -> str:
        """`value` as the report shows it: '97.25%' or '0.2513'."""
        return percent(value) if self.share else f"{value:.4g}"

    def change(self, value: float, reference: float) -> str:
        """`value` minus `reference` as the report shows it: '-1.27 points' or '+0.02'."""
        return f"{100 * (value - reference):+.2f} points" if self.share else f"{value - reference:+.4g}"


def float_state(task: str, found: Mapping) -> dict:
    """The float network's metrics as a workdir's state records them, under the keys of `FLOAT_STATE`."""
    first = next(iter(found.values()))
    top1 = {"float_top1": first if task in ("classification", "binary") else None}
    return top1 if task == "classification" else top1 | {"float_quality": dict(found)}


def float_text(task: str, state: Mapping) -> str:
    """The float network's metrics in one line."""
    found = state.get("float_quality") or {"accuracy": state["float_top1"]}
    return ", ".join(
        f"{score.words} {score.text(value)}"
        for score in _scores(task, {name: {"float": value} for name, value in found.items()})
        for value in score.values.values()
    )


def metrics(state: Mapping, fixed: Mapping, parity) -> dict:
    """The keys of `metrics.json` that hold the scores of the forms.

    Args:
      state: the workdir's state, with the keys of `FLOAT_STATE`.
      fixed: the fixed network's metrics by name, the main metric first.
      parity: the `VerificationReport` of folded network and file.
    """
    own = {}
    if parity.task in ("classification", "binary"):
        own = {
            "float_top1": state["float_top1"],
            "fixed_top1": next(iter(fixed.values())),
            "folded_top1": parity.folded_top1,
            "tflite_top1": parity.tflite_top1,
            "top1_agreement": parity.top1_agreement,
        }
    if parity.task == "classification":
        return own
    quality = {
        name: {"float": state["float_quality"].get(name), "fixed": fixed[name], **values}
        for name, values in parity.metrics.items()
    }
    return own | {"task": parity.task, "quality": quality, "agreement": parity.agreement}


def scores_of(metrics: Mapping) -> tuple[Score, ...]:
    """The scores of a `metrics.json`, the one that stands for the whole first."""
    quality = metrics.get("quality")
    if quality is None:
        quality = {"accuracy": {form: metrics.get(f"{form}_top1") for form in FORMS}}
    return _scores(metrics.get("task", "classification"), quality)


def agreement_of(metrics: Mapping) -> float:
    """The share of outputs that are the same in file and folded network; `NAMED` says of what."""
    found = metrics.get("agreement")
    return metrics["top1_agreement"] if found is None else found


def _scores(task: str, quality: Mapping) -> tuple[Score, ...]:
    known = (
        Score(
            words=measure.words,
            share=measure.share,
            less_is_better=measure.less_is_better,
            values={
                form: value for form, value in quality.get(measure.name, {}).items() if value is not None
            },
        )
        for measure in MEASURES[task]
    )
    return tuple(score for score in known if score.values)
