"""The sections of the report as HTML: facts in, markup out, nothing read or written.

Every text that comes from a run (layer names, flags, versions, dataset names) goes through `html.escape`;
figures are SVG images inside data URLs (`mmx_tf.report.parts`), so a page needs no other file.
"""

import collections
import html
import pathlib
from collections.abc import Iterable, Mapping

from mmx_tf.notation import duration, percent, si
from mmx_tf.recipe.rules import IMAGENET_WEIGHTS
from mmx_tf.report import plots
from mmx_tf.report.accuracy import exactness, unit
from mmx_tf.report.facts import KINDS, RunFacts, own_cost
from mmx_tf.report.parts import meters, picture
from mmx_tf.report.scores import NAMED

_AVERAGES = {
    "plain": "plain mean over the searched layers",
    "by_ops": "weighted by operations",
    "by_elements": "weighted by input elements",
}
_SIGNED = {True: "signed", False: "unsigned", None: ""}


def title(settings: Mapping) -> str:
    """Plain text: which network, on which data, as far as the settings say."""
    network, data = _network(settings), settings.get("dataset")
    return f"MetaMix report: {network or 'a network'}" + (f" on {data}" if data else "")


def _network(settings: Mapping) -> str:
    """The name of the float network: its file's, for which --model is ignored, or the built-in one's."""
    file = str(settings.get("float_model") or "")
    return settings.get("model") or "" if file in ("", IMAGENET_WEIGHTS) else pathlib.PurePath(file).stem


def summary(facts: RunFacts, settings: Mapping) -> str:
    """The run in one paragraph that needs no other knowledge."""
    network = html.escape(str(_network(settings) or "The network"))
    data = f" on {html.escape(str(settings['dataset']))}" if settings.get("dataset") else ""
    counts = [f"{bits} bits for {facts.layers_at(bits)}" for bits in sorted(facts.bit_widths, reverse=True)]
    text = (
        f"<strong>{network}</strong>{data} has {len(facts.layers)} quantized layers and "
        f"{facts.macs / 1e6:,.1f} million multiply-accumulates an image. "
    )
    if facts.searched:
        text += (
            f"The first and the last layer keep {_and(_ends(facts))} bits; for the "
            f"{len(facts.searched)} between them {_chooser(settings)} the width of the activations: "
            f"{_and(counts)}. {_weights(facts)} "
        )
    text += f"One image then costs <strong>{si(facts.bops)}BOPs</strong>"
    if facts.target_bops:
        text += ", " + _against(facts.bops, facts.target_bops, f"the budget of {si(facts.target_bops)}BOPs")
    if facts.searched:
        everywhere = facts.uniform_bops(8)
        text += " and " if facts.target_bops else ", "
        text += _against(facts.bops, everywhere, "what 8-bit activations everywhere would cost")
    score = facts.score
    # Of images it can be right on a share; of labels, pixels and numbers it has a metric.
    of_images = facts.task in ("classification", "binary")
    verb = "is right on" if of_images else "has"
    what = "" if of_images else f" as {score.words}{unit(facts)}"
    text += (
        f". On {facts.eval_images:,} evaluation images the exported file {verb} "
        f"<strong>{score.text(score.values['tflite'])}</strong>{what}"
    )
    if "float" in score.values:
        text += f"; the float network that it started from {verb} {score.text(score.values['float'])}"
    return f"<p>{text}. {exactness(facts)}</p>"


def _chooser(settings: Mapping) -> str:
    """What chose the bits: not always a search."""
    if settings.get("bit_selection"):
        return "a given selection has set"
    return {"random": "a random draw chose", "uniform": "--selection=uniform has set"}.get(
        settings.get("selection"), "MetaMix chose"
    )


def tiles(facts: RunFacts) -> str:
    """The four figures that a reader in a hurry wants."""
    change, score = "", facts.score
    if "float" in score.values:
        change = f"{score.change(score.values['tflite'], score.values['float'])} against the float network"
    budget, mood = "no budget in BOPs was given", ""
    if facts.cost:
        budget = html.escape(own_cost(facts.cost))
    if facts.target_bops:
        budget = _against(facts.bops, facts.target_bops, "the budget")
        mood = "good" if facts.bops <= facts.target_bops else "bad"
    equal = percent(1 - facts.code_disagreement)
    boxes = (
        (f"{score.words} of the .tflite file", score.text(score.values["tflite"]), change, ""),
        ("for one image", f"{si(facts.bops)}BOPs", budget, mood),
        (
            f"file and folded network, {NAMED[facts.task][0]}",
            percent(facts.agreement),
            f"and {equal} of logit codes equal",
            "",
        ),
        ("file size", f"{si(facts.file_bytes)}B", f"{facts.file_bytes:,} bytes", ""),
    )
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{value}</b>{label}<span class="{mood}">{extra}</span></div>'
            for label, value, extra, mood in boxes
        )
        + "</div>"
    )


def honest_note() -> str:
    """What low-bit activations do not buy on an ordinary processor."""
    return (
        '<p class="note"><strong>What the bits save, and where.</strong> In the file every activation is an '
        "int8 tensor that takes only the codes of its bit-width. On an ordinary CPU a 3- or 4-bit layer "
        "therefore takes as much time and as much memory as an 8-bit one. The BOPs are saved on hardware "
        "that has these widths; for it the file carries them as metadata.</p>"
    )


def bits_section(facts: RunFacts) -> str:
    """The bit plot, what it says in words, and the average bits."""
    per_kind = []
    for kind in KINDS:
        bits = [layer.activation_bits for layer in facts.searched if layer.kind == kind]
        if bits:
            per_kind.append(f"{kind} {sum(bits) / len(bits):.2f} ({len(bits)})")
    chosen = "activation and weight bits" if facts.mixed_weights else "activation bits"
    alt = (
        f"Bar chart of the {chosen} of {len(facts.layers)} layers, coloured by kind, above their "
        f"shares of BOPs and MACs. The same figures are in the table of layers."
    )
    words = f"Mean bits (number) of the searched layers by kind: {'; '.join(per_kind)}." if per_kind else ""
    if facts.mixed_weights:
        of_weights = [layer.weight_bits for layer in facts.searched]
        words += f" Their weights have {sum(of_weights) / len(of_weights):.2f} bits in the mean."
    rows = "".join(
        f'<tr><td class="text">{html.escape(_AVERAGES.get(key, key))}</td><td>{value:.2f}</td></tr>'
        for key, value in facts.average_bits.items()
        if value is not None
    )
    figure = picture(lambda theme: plots.bits_figure(facts, theme=theme), alt, words)
    table = f"<table><caption>Average activation bits</caption><tbody>{rows}</tbody></table>" if rows else ""
    return f"<h2>Chosen bits</h2>{figure}{table}"


def cost_section(facts: RunFacts) -> str:
    """BOPs of the selection beside the budget and beside uniform activation bits."""
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
    note = "Weights, and the first and the last layer, are the same in every row."
    if facts.layer_bops != facts.bops:
        note += (
            f" The layers of this selection sum to {facts.layer_bops:,} BOPs but {facts.bops:,} are "
            f"recorded: the record is not of this selection."
        )
    bars = [(name, f"{si(bops)}BOPs", bops / most, look) for name, bops, look in rows]
    caption = "BOPs of one image: MACs x weight bits x activation bits, summed over the layers"
    return f'<h2>Cost</h2>{meters(caption, bars)}<p class="muted">{note}</p>'


def layers_section(facts: RunFacts) -> str:
    """The table of all layers, in graph order."""
    rows = "".join(
        f'<tr><td>{index}</td><td class="text">{html.escape(layer.name)}</td>'
        f'<td class="text"><span class="kind {html.escape(layer.kind)}">{html.escape(layer.kind)}</span></td>'
        f'<td>{layer.macs:,}</td><td><span class="bits">{layer.activation_bits}</span></td>'
        f'<td>{layer.weight_bits}</td><td class="text">{_SIGNED[layer.signed]}</td>'
        f"<td>{layer.bops:,}</td><td>{percent(layer.bops_share)}</td></tr>"
        for index, layer in enumerate(facts.layers, start=1)
    )
    return (
        f'<h2>Layers</h2><div class="scroll"><table><thead><tr><th>#</th><th class="text">layer</th>'
        f'<th class="text">kind</th><th>MACs</th><th>activation bits</th><th>weight bits</th>'
        f'<th class="text">input codes</th><th>BOPs</th><th>share of BOPs</th></tr></thead>'
        f"<tbody>{rows}</tbody>"
        f'<tfoot><tr><td></td><th class="text">all layers</th><td></td><td>{facts.macs:,}</td><td></td>'
        f"<td></td><td></td><td>{facts.layer_bops:,}</td><td>100%</td></tr></tfoot></table></div>"
    )


def run_section(
    settings: Mapping, *, seconds: Mapping[str, float], versions: Mapping[str, str] | None = None
) -> str:
    """How to do it again: time of each phase, versions, command and flags."""
    parts = []
    if seconds:
        longest = max(seconds.values()) or 1
        bars = [(str(phase), duration(value), value / longest, "plain") for phase, value in seconds.items()]
        parts.append(meters(f"Time of each phase, {duration(sum(seconds.values()))} in all", bars))
    if settings.get("command"):
        parts.append(f"<p>Command:</p><pre>{html.escape(str(settings['command']))}</pre>")
    flags = {name: value for name, value in settings.items() if name != "command"}
    for caption, mapping in (("Settings", flags), ("Versions", versions or {})):
        if mapping:
            rows = "".join(
                f'<tr><td class="text">{html.escape(str(name))}</td>'
                f'<td class="text wrap">{html.escape(str(value))}</td></tr>'
                for name, value in mapping.items()
            )
            parts.append(f"<table><caption>{caption}</caption><tbody>{rows}</tbody></table>")
    return f"<h2>The run</h2>{''.join(parts)}" if parts else ""


def _weights(facts: RunFacts) -> str:
    counts = collections.Counter(layer.weight_bits for layer in facts.searched)
    if not facts.mixed_weights:
        return f"Their weights have {_and(map(str, counts))} bits."
    words = [f"{bits} bits for {counts[bits]}" for bits in sorted(counts, reverse=True)]
    return f"It also chose the width of their weights: {_and(words)}."


def _against(value: float, reference: float, what: str) -> str:
    """`value` relative to `reference` in words; a difference is never rounded away."""
    if value == reference:
        return f"exactly {what}"
    return f"{percent(abs(value / reference - 1))} {'below' if value < reference else 'above'} {what}"


def _ends(facts: RunFacts) -> list[str]:
    return [str(bits) for bits in sorted({facts.layers[0].activation_bits, facts.layers[-1].activation_bits})]


def _and(parts: Iterable[str]) -> str:
    *head, last = parts
    return f"{', '.join(head)} and {last}" if head else last
