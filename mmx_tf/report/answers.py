"""The first screen of the report: what was chosen, what it gains, and whether it can be trusted.

    for answer in answers(facts, compared, near_ties=(3, 51)):
        answer.question, answer.value, answer.text

Each answer has a figure to remember and the sentences that it needs. All of it stands in full further down.
"""

import dataclasses

from mmx_tf.notation import si
from mmx_tf.report.comparison import Comparison, noise
from mmx_tf.report.device import BUDGETS
from mmx_tf.report.facts import RunFacts, cost_form
from mmx_tf.report.gains import told
from mmx_tf.report.reasons import short
from mmx_tf.report.summary import against, counts, exactness, weights

_QUANTITY_OF_UNIT = {"bytes": "file_bytes", "bytes of RAM": "ram_bytes", "bytes of flash": "flash_bytes"}
_QUANTITY_OF_BUDGET = {"target_latency": "device_latency_ms", "target_flash": "device_flash_bytes"}


@dataclasses.dataclass(frozen=True)
class Answer:
    """A question, its answer in a figure, the rest in words, and its colour ("good", "bad" or "")."""

    question: str
    value: str
    text: str
    mood: str = ""


def answers(
    facts: RunFacts,
    compared: Comparison | None,
    *,
    near_ties: tuple[int, int] = (0, 0),
) -> tuple[Answer, Answer, Answer]:
    """What was chosen, what it gains, and whether it can be trusted.

    Args:
      facts: the run.
      compared: its file beside its baselines; None of a run without them.
      near_ties: how many choices of bits are near ties, and of how many (`reasons.near_ties`).
    """
    return _chosen(facts), _gain(facts, compared), _trust(facts, *near_ties)


def _chosen(facts: RunFacts) -> Answer:
    cost, met = f"One image costs {si(facts.bops)}BOPs", []
    of_device = (facts.device or {}).get("budgets", {})
    if facts.target_bops:
        cost += f", {against(facts.bops, facts.target_bops, 'the budget')}"
        met.append(facts.bops <= facts.target_bops)
    elif not facts.costs and not of_device:
        cost += "; no budget in BOPs was given"
    for one in facts.costs:
        cost += f"; it takes {_of_budget(one['value'], one['unit'], one['target'], cost_form(one))}"
        met.append(one["target"] is None or one["value"] <= one["target"])
    for name, one in of_device.items():
        what = f"by the device's tool, the {BUDGETS.get(name, name)}"
        cost += f"; {what} is {_of_budget(one['figure'], one['unit'], one['target'], ',.6g', one['met'])}"
        met.append(one["met"])
    words = [f"{cost}."]
    value = f"{facts.layers[0].activation_bits} bits at both ends"
    if facts.searched:
        words.insert(0, f"{counts(facts)} of {len(facts.searched)} searched layers. {weights(facts)}")
        average = next(facts.average_bits[k] for k in ("by_ops", "plain") if facts.average_bits.get(k))
        value = f"{average:.2f} bits on average"
    words.append(f"The file has {facts.file_bytes:,} bytes.")
    return Answer("What was chosen", value, " ".join(words), "" if all(met) else "bad")


def _of_budget(value: float, unit: str, target: float | None, form: str, met: bool | None = None) -> str:
    """'12,820 bytes of RAM of a budget of 14,000'; beyond it 'which exceeds a budget of 12,000'."""
    text = f"{value:{form}} {unit}"
    if target is None:
        return text
    met = value <= target if met is None else met
    return f"{text}{' of' if met else ', which exceeds'} a budget of {target:{form}}"


def _gain(facts: RunFacts, compared: Comparison | None) -> Answer:
    if compared is None or compared.reference is None:
        words = "The weights are the same in both."
        if compared is None:
            words += " --baselines=int8 compares the file with plain int8: in accuracy, bytes, time and RAM."
        else:
            words += " " + " ".join(compared.refused)
        ratio = facts.bops / facts.uniform_bops(8)
        return Answer("What it gains over 8-bit activations", told("bops", ratio), words, _mood(ratio))
    own, other = compared.candidates[0], compared.reference
    known = {name: compared.ratio(own, name) for name in own.figures}
    quantity = next((name for name in _budgeted(facts) if known.get(name) is not None), "bops")
    ratio = known[quantity]
    words = " ".join(compared.about[other.key])
    return Answer(f"What it gains over {other.name}", told(quantity, ratio), words, _mood(ratio))


def _trust(facts: RunFacts, ties: int, choices: int) -> Answer:
    score = facts.score
    found = score.values["tflite"]
    exact = facts.agreement == 1 and facts.code_disagreement == 0
    words = [exactness(facts)]
    if "float" in score.values:
        words.append(f"{score.change(found, score.values['float'])} against the float network.")
    chance = noise(found, 0.0, score, facts.eval_images)
    if chance:
        words.append(
            f"On {facts.eval_images:,} images the {score.words} is known to ±{100 * chance:.1f} points."
        )
    if short(ties, choices):
        words.append(
            f'{ties} of {choices} choices of bits are near ties: "Why these bits" says how long a search '
            "tells them apart."
        )
    value = f"{'Exact; ' if exact else ''}{score.text(found)} {score.words}"
    return Answer("Can it be trusted", value, " ".join(words), "good" if exact else "")


def _budgeted(facts: RunFacts) -> list[str]:
    """The quantities that have budgets, which the gain is told in."""
    if facts.target_bops:
        return ["bops"]
    of_device = (facts.device or {}).get("budgets", {})
    found = [_QUANTITY_OF_BUDGET[name] for name in of_device if name in _QUANTITY_OF_BUDGET]
    return found + [_QUANTITY_OF_UNIT.get(cost["unit"], "bops") for cost in facts.costs]


def _mood(ratio: float) -> str:
    return "good" if ratio < 1 else "bad" if ratio > 1 else ""
