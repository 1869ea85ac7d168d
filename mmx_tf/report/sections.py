"""What the sections of the report show: facts in, texts, tables and figures out.

`templates/report.html.jinja` shows them, with the words that are the same for all runs.
"""

from collections.abc import Mapping

from mmx_tf.notation import duration, si
from mmx_tf.report import plots
from mmx_tf.report.facts import KINDS, RunFacts
from mmx_tf.report.parts import Bar, Meters, picture
from mmx_tf.report.scores import FORMS
from mmx_tf.report.summary import unit

_AVERAGES = {
    "plain": "plain mean over the searched layers",
    "by_ops": "weighted by operations",
    "by_elements": "weighted by input elements",
}


_BITS = (
    "Look for tall bars in the upper chart, the layers that kept many bits, and in the lower one for marks "
    "far above their bars: there the bits saved the most. A tall bar below is where fewer bits would still "
    "save."
)
_OF_FLOAT = (
    "from the float to the fixed-bit network it is the price of few bits, which longer training lowers; "
)
_ACCURACY = (
    "Look for the step at which {lost}: {float}from the fixed-bit network to its folded twin it is the "
    "rounding of biases. From the twin to the file there must be no step."
)
_COST = (
    "Look for the row of the chosen bits between the rows of one bit-width everywhere: a mix pays where it "
    "is far below the width whose accuracy it keeps."
)
_TIMES = "Look for the phase that took most of the time: its epochs are what a shorter run saves."


def bits(facts: RunFacts) -> dict[str, object]:
    """The bit plot, its caption, and the average bits."""
    per_kind = []
    for kind in KINDS:
        of_kind = [layer.activation_bits for layer in facts.searched if layer.kind == kind]
        if of_kind:
            per_kind.append(f"{kind} {sum(of_kind) / len(of_kind):.2f} ({len(of_kind)})")
    chosen = "activation and weight bits" if facts.mixed_weights else "activation bits"
    alt = (
        f"Bar chart of the {chosen} of {len(facts.layers)} layers, coloured by kind, above their "
        f"shares of BOPs and MACs. The same figures are in the table of layers."
    )
    words = ""
    if per_kind:
        words = f"Mean bits of the searched layers of each kind (number of layers): {'; '.join(per_kind)}."
    if facts.mixed_weights:
        of_weights = [layer.weight_bits for layer in facts.searched]
        words += f" Their weights have {sum(of_weights) / len(of_weights):.2f} bits in the mean."
    averages = {
        _AVERAGES.get(key, key): f"{value:.2f}"
        for key, value in facts.average_bits.items()
        if value is not None
    }
    return {
        "figure": picture(lambda theme: plots.bits_figure(facts, theme=theme), alt, _BITS, words),
        "averages": averages,
    }


def accuracy(facts: RunFacts) -> dict[str, object]:
    """The scores of the four forms of the network."""
    tables = []
    for score in facts.scores:
        longest = 1.0 if not score.less_is_better else max(score.values.values()) or 1.0
        bars = tuple(
            Bar(FORMS[form], score.text(value), value / longest, "" if form == "tflite" else "plain")
            for form, value in score.values.items()
        )
        words = score.words[0].upper() + score.words[1:] + (unit(facts) if score.less_is_better else "")
        lost = "the error grows" if score.less_is_better else "accuracy is lost"
        look = _ACCURACY.format(lost=lost, float=_OF_FLOAT if "float" in score.values else "")
        caption = f"{words} on the same {facts.eval_images:,} images"
        tables.append(Meters(caption, bars, look))
    return {"heading": "Error" if facts.score.less_is_better else "Accuracy", "scores": tables}


def cost(facts: RunFacts) -> dict[str, object]:
    """BOPs of the selection, of the budget, and of uniform activation bits, as bars."""
    rows = [
        (f"all searched layers at {bits} bits", facts.uniform_bops(bits), "plain")
        for bits in sorted({*facts.bit_widths, 8, 4}, reverse=True)
        if facts.searched
    ]
    rows.append(("chosen bits", facts.bops, ""))
    if facts.target_bops:
        rows.append(("budget", facts.target_bops, "goal"))
    rows.sort(key=lambda row: -row[1])
    most = rows[0][1] or 1
    note = "The weight bits and the first and the last layer are the same in every row."
    if facts.layer_bops != facts.bops:
        note += (
            f" The layers of this selection sum to {facts.layer_bops:,} BOPs but {facts.bops:,} are "
            f"recorded: the record is of another selection."
        )
    bars = tuple(Bar(name, f"{si(bops)}BOPs", bops / most, look) for name, bops, look in rows)
    caption = "BOPs of one image: MACs x weight bits x activation bits, summed over the layers"
    return {"bars": Meters(caption, bars, _COST), "note": note}


def run(
    settings: Mapping, *, seconds: Mapping[str, float], versions: Mapping[str, str] | None = None
) -> dict[str, object]:
    """What it takes to repeat the run: time of each phase, command, flags and versions."""
    times = None
    if seconds:
        longest = max(seconds.values()) or 1
        bars = tuple(Bar(str(phase), duration(value), value / longest) for phase, value in seconds.items())
        times = Meters(f"Time of each phase, {duration(sum(seconds.values()))} in all", bars, _TIMES)
    return {
        "times": times,
        "command": settings.get("command"),
        "flags": {name: value for name, value in settings.items() if name != "command"},
        "versions": versions or {},
    }
