"""The words at the top of the report: its title, the run in a paragraph, and what the answers are made of.

The functions give plain text; the templates add the markup and escape it.
"""

import collections
import pathlib
from collections.abc import Mapping

from mmx_tf.notation import percent, si
from mmx_tf.recipe.rules import IMAGENET_WEIGHTS
from mmx_tf.report.facts import RunFacts
from mmx_tf.report.rendering import listed
from mmx_tf.report.scores import NAMED


def title(settings: Mapping) -> str:
    """The title: which network on which dataset, as far as the settings name them."""
    network, data = _network(settings), settings.get("dataset")
    return f"MetaMix report: {network or 'a network'}" + (f" on {data}" if data else "")


def summary(facts: RunFacts, settings: Mapping) -> dict[str, object]:
    """The words of `summary.html.jinja` that depend on the run, by name."""
    score = facts.score
    # A classifier is right on a share of the images; for other tasks the metric is named.
    of_images = facts.task in ("classification", "binary")
    comparisons = []
    if facts.target_bops:
        comparisons.append(
            against(facts.bops, facts.target_bops, f"the budget of {si(facts.target_bops)}BOPs")
        )
    if facts.searched:
        what = "what 8-bit activations everywhere would cost"
        comparisons.append(against(facts.bops, facts.uniform_bops(8), what))
    return {
        "network": _network(settings) or "The network",
        "dataset": settings.get("dataset"),
        "million_macs": f"{facts.macs / 1e6:,.1f}",
        "ends": listed(str(b) for b in sorted({facts.layers[i].activation_bits for i in (0, -1)})),
        "chooser": _chooser(settings),
        "counts": counts(facts),
        "weights": weights(facts) if facts.searched else "",
        "comparisons": comparisons,
        "verb": "is right on" if of_images else "has",
        "file_score": score.text(score.values["tflite"]),
        "metric": "" if of_images else f" as {score.words}{unit(facts)}",
        "float_score": score.text(score.values["float"]) if "float" in score.values else "",
    }


def exactness(facts: RunFacts) -> str:
    """How far the file is from the folded network, in a sentence."""
    if facts.agreement == 1 and facts.code_disagreement == 0:
        return (
            "The file computes exactly what the folded integer twin of the trained network computes: "
            "every logit code of every image is equal."
        )
    same, of = NAMED[facts.task]
    return (
        f"The file gives the {same} as the folded integer twin of the trained network on "
        f"{percent(facts.agreement)} of the {of}; {percent(facts.code_disagreement)} of the logit "
        f"codes differ."
    )


def unit(facts: RunFacts) -> str:
    """The unit of the main score in brackets, if that is an error; else nothing."""
    return " (in the labels' unit)" if facts.score.less_is_better else ""


def counts(facts: RunFacts) -> str:
    """How many searched layers have each width that occurs: '8 bits for 8, 4 bits for 26 and 3 bits for 17'.

    "" of a network without searched layers.
    """
    widths = sorted({layer.activation_bits for layer in facts.searched}, reverse=True)
    return listed(f"{bits} bits for {facts.layers_at(bits)}" for bits in widths) if widths else ""


def weights(facts: RunFacts) -> str:
    """The bits of the searched layers' weights, in a sentence."""
    found = collections.Counter(layer.weight_bits for layer in facts.searched)
    if not facts.mixed_weights:
        return f"Their weights have {listed(map(str, found))} bits."
    words = [f"{bits} bits for {found[bits]}" for bits in sorted(found, reverse=True)]
    return f"It also chose the width of their weights: {listed(words)}."


def against(value: float, reference: float, what: str) -> str:
    """`value` relative to `reference` in words; a difference is never rounded away."""
    if value == reference:
        return f"exactly {what}"
    return f"{percent(abs(value / reference - 1))} {'below' if value < reference else 'above'} {what}"


def _network(settings: Mapping) -> str:
    """The name of the float network: of its file, if there is one (--model is then ignored), or built in."""
    file = str(settings.get("float_model") or "")
    return settings.get("model") or "" if file in ("", IMAGENET_WEIGHTS) else pathlib.PurePath(file).stem


def _chooser(settings: Mapping) -> str:
    """What chose the bits, which is not always a search."""
    if settings.get("bit_selection"):
        return "a given selection has set"
    return {"random": "a random draw chose", "uniform": "--selection=uniform has set"}.get(
        settings.get("selection"), "MetaMix chose"
    )
