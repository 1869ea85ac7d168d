"""What a run's file is worth beside what one would ship otherwise: a table, and sentences that say it.

    found = comparison(metrics)
    found.sentences[0]      # "Better than plain int8: 50% fewer BOPs and 40% smaller file."

Everything follows from `metrics.json`: its own figures, those of its `baselines`, and the times in `latency`.
All ratios are to plain int8 where the run has it, else to the other baseline. A figure is a gain or a loss by
its sign alone; an accuracy counts as neither while the images are too few to tell, and a time while the ratio
is within `TIME_NOISE` of 1.
"""

import dataclasses
import math
from collections.abc import Mapping

from mmx_tf.notation import si
from mmx_tf.report.gains import QUANTITIES, told
from mmx_tf.report.rendering import listed
from mmx_tf.report.scores import Score, scores_of

TIME_NOISE = 0.03
"""Times whose ratio is this close to 1 are told as equal."""
STANDARD_ERRORS = 2
"""Differences of shares below this many standard errors are told as none."""
OWN = "tflite"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A file that is compared.

    Attributes:
      key: "tflite" for the run's own, else the name of a baseline.
      name: in words.
      score: of the main metric; None where it has no value.
      figures: quantity -> value; one that is not known is left out.
    """

    key: str
    name: str
    score: float | None
    figures: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The run's file beside its baselines.

    Attributes:
      score: the main metric, for its words and form.
      candidates: the run's own file first, then the reference, then what is left.
      about: key of a baseline -> what is gained over it and what is not, in sentences.
      remarks: what the figures are of, in sentences.
      refused: why a baseline, or the times, are not there.
    """

    score: Score
    candidates: tuple[Candidate, ...]
    about: Mapping[str, tuple[str, ...]]
    remarks: tuple[str, ...]
    refused: tuple[str, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is said of each baseline in the order of the candidates, then the remarks."""
        return (*(sentence for told in self.about.values() for sentence in told), *self.remarks)

    @property
    def reference(self) -> Candidate | None:
        """What ratios are to; None where no baseline could be made."""
        return self.candidates[1] if len(self.candidates) > 1 else None

    def ratio(self, candidate: Candidate, quantity: str) -> float | None:
        """A figure over the reference's; None where either is not known."""
        return _ratio(candidate, self.reference, quantity)

    def to_json(self) -> dict:
        """The entry `comparison` of `metrics.json`."""
        rows = {
            one.key: {
                "score": one.score,
                **one.figures,
                "ratios": {
                    name: ratio for name in one.figures if (ratio := self.ratio(one, name)) is not None
                },
            }
            for one in self.candidates
        }
        reference = self.reference and self.reference.key
        return {"reference": reference, "files": rows, "sentences": [*self.sentences, *self.refused]}


def with_comparison(metrics: dict) -> dict:
    """Metrics with their entry `comparison`; unchanged where nothing was compared."""
    found = comparison(metrics)
    return metrics if found is None else metrics | {"comparison": found.to_json()}


def comparison(metrics: Mapping) -> Comparison | None:
    """The comparison in a `metrics.json`; None of a run without baselines."""
    baselines = metrics.get("baselines")
    if not baselines:
        return None
    latency = metrics.get("latency") or {}
    times = latency.get("median_ms", {})
    score, own = scores_of(metrics)[0], metrics.get("microcontroller") or {}
    memory = {OWN: own.get("packed", {})}
    for name, facts in baselines.items():
        # Plain int8 has no fewer bits to pack.
        memory[name] = (facts.get("microcontroller") or {}).get("int8" if name == "int8" else "packed", {})
    remark = ""
    if "int8" in baselines and not memory["int8"] and "refused" not in baselines["int8"]:
        memory["int8"] = own.get("int8", {})
        if memory["int8"]:
            remark = (
                "RAM and flash of plain int8 are those of this file's C source with 8-bit activations and "
                "weights: the int8 file itself has no C source."
            )

    def candidate(key, name, value, facts):
        figures = {
            "bops": facts["bops"],
            "file_bytes": facts["file_bytes"],
            "latency_ms": times.get(key),
            "ram_bytes": memory[key].get("ram_bytes"),
            "flash_bytes": memory[key].get("flash_bytes"),
            **_on_device(facts),
        }
        return Candidate(key, name, value, {q: figure for q, figure in figures.items() if figure is not None})

    first = _first_metric(metrics)
    found = [candidate(OWN, "this file", score.values.get(OWN), metrics)]
    for name in ("int8", "uniform"):
        facts = baselines.get(name, {"refused": ""})
        if "refused" not in facts:
            found.append(candidate(name, name_of(name, facts), facts["quality"].get(first), facts))
    images = metrics["eval_images"]
    refused = [facts["refused"] for facts in (*baselines.values(), latency) if "refused" in facts]
    return Comparison(
        score,
        tuple(found),
        {other.key: _sentences(found[0], other, score, images) for other in found[1:]},
        (remark,) if remark else (),
        tuple(f"{reason[0].upper()}{reason[1:]}" for reason in refused),
    )


def name_of(baseline: str, facts: Mapping) -> str:
    """A baseline in words; `facts` is its entry in the metrics."""
    if baseline == "int8":
        return "plain int8"
    weights, activations = facts["weight_bits"], facts["activation_bits"]
    words = (
        f"{activations} bits"
        if weights == activations
        else f"{activations}-bit activations, {weights}-bit weights"
    )
    return f"{words} everywhere"


def shown(quantity: str, value: float) -> str:
    """A figure of one of `QUANTITIES` as the table has it."""
    if quantity == "bops":
        return f"{si(value)}BOPs"
    return f"{value:.3g} ms" if quantity.endswith("latency_ms") else f"{value:,} B"


def noise(one: float, other: float, score: Score, images: int) -> float:
    """The difference of two shares of as many images that chance alone may make; 0 of other numbers."""
    if not score.share or not images:
        return 0.0
    return STANDARD_ERRORS * math.sqrt((one * (1 - one) + other * (1 - other)) / images)


def _on_device(facts: Mapping) -> dict[str, float]:
    """The figures of a device that are compared, of the metrics or a baseline's facts."""
    figures = (facts.get("device") or {}).get("figures", {})
    return {name: figures[name] for name in QUANTITIES if name.startswith("device_") and name in figures}


def _first_metric(metrics: Mapping) -> str:
    return next(iter(metrics["quality"])) if "quality" in metrics else "accuracy"


def _ratio(one: Candidate, other: Candidate | None, quantity: str) -> float | None:
    if other is None or quantity not in one.figures or not other.figures.get(quantity):
        return None
    return one.figures[quantity] / other.figures[quantity]


def judged(own: Candidate, other: Candidate, score: Score, images: int) -> dict[str, str]:
    """By quantity whether the file is "better", "worse" or "even"; "score" is the main metric.

    A cost is judged by its sign, a time is even within `TIME_NOISE`, and the score within `noise`. What is
    not known of both is left out.
    """
    found = {}
    for quantity in QUANTITIES:
        ratio = _ratio(own, other, quantity)
        if ratio is not None:
            even = abs(ratio - 1) <= (TIME_NOISE if quantity == "latency_ms" else 0)
            found[quantity] = "even" if even else "better" if ratio < 1 else "worse"
    if own.score is not None and other.score is not None:
        change = own.score - other.score
        even = abs(change) <= noise(own.score, other.score, score, images)
        gains = (change < 0) == score.less_is_better
        found["score"] = "even" if even else "better" if gains else "worse"
    return found


def verdict(found: Mapping[str, str], words: str, name: str) -> str:
    """Whether the choice of bits pays beside one bit-width everywhere, in a sentence.

    Args:
      found: what `judged` gives of the two; without "score" there is no verdict.
      words: the name of the score.
      name: the other file, "4 bits everywhere".
    """
    if "score" not in found:
        return ""
    costs = {kind for quantity, kind in found.items() if quantity != "score"} - {"even"}
    score = found["score"]
    if "better" not in costs and score != "better":
        return (
            f"The chosen bits gain nothing over {name} here: no cost is lower, and the {words} is not "
            "better by more than chance."
        )
    if "worse" not in costs and score != "worse":
        return (
            f"The chosen bits beat {name}: they are better at what is listed next, and worse at nothing "
            "by more than chance."
        )
    if score == "even":
        return (
            f"The chosen bits neither beat {name} nor lose: some costs are lower and others higher, with a "
            f"{words} that is too close to call."
        )
    if costs == {"better"} or costs == {"worse"}:
        way = "lower" if costs == {"better"} else "higher"
        return f"The chosen bits trade with {name}: a {score} {words} at {way} costs."
    return f"The chosen bits trade with {name}: a {score} {words}, some costs lower and others higher."


def _sentences(own: Candidate, other: Candidate, score: Score, images: int) -> tuple[str, ...]:
    """Where the file is better than another one, where worse, and where there is nothing between them.

    Beside one bit-width everywhere the verdict comes first.
    """
    found: dict[str, list[str]] = {"better": [], "worse": [], "even": []}
    kinds = judged(own, other, score, images)
    for quantity, kind in kinds.items():
        if quantity != "score":
            found[kind].append(told(quantity, _ratio(own, other, quantity)))
    if "score" in kinds:
        change = own.score - other.score
        size = score.change(abs(change), 0.0).removeprefix("+")
        way = "higher" if change > 0 else "lower"
        text = f"{score.words} {size} {way}" if change else f"the same {score.words}"
        found[kinds["score"]].append(text)
    better, worse, even = (listed(parts) if parts else "nothing" for parts in found.values())
    sentences = [verdict(kinds, score.words, other.name)] if other.key == "uniform" else []
    sentences += [f"Better than {other.name}: {better}.", f"Worse: {worse}."]
    if found["even"]:
        bounds = f"{images:,} images, times within {TIME_NOISE:.0%}"
        sentences.append(f"Equal or too close to call ({bounds}): {even}.")
    return tuple(filter(None, sentences))
