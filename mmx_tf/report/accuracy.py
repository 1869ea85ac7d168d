"""The report's section on how good the network's forms are, and how far the file is from the folded one."""

from mmx_tf.notation import percent
from mmx_tf.report.facts import RunFacts
from mmx_tf.report.parts import meters
from mmx_tf.report.scores import FORMS, NAMED


def accuracy_section(facts: RunFacts) -> str:
    """The scores of the four forms of the network and how far the file is from the folded one."""
    return (
        f"<h2>{'Error' if facts.score.less_is_better else 'Accuracy'}</h2>{_score_tables(facts)}"
        f'<p class="muted">The fixed-bit network is what was trained; in its folded integer twin batch '
        f"norm is part of weights and biases and all arithmetic is exact; the file is that twin for "
        f"LiteRT, and LiteRT ran it.</p><p>{exactness(facts)}</p>"
    )


def _score_tables(facts: RunFacts) -> str:
    tables = []
    for score in facts.scores:
        longest = 1.0 if not score.less_is_better else max(score.values.values()) or 1.0
        rows = [
            (FORMS[form], score.text(value), value / longest, "" if form == "tflite" else "plain")
            for form, value in score.values.items()
        ]
        words = score.words[0].upper() + score.words[1:] + (unit(facts) if score.less_is_better else "")
        tables.append(meters(f"{words} on the same {facts.eval_images:,} images", rows))
    return "".join(tables)


def unit(facts: RunFacts) -> str:
    """The unit of the score that stands for the whole, where it is an error."""
    return " (in the labels' unit)" if facts.score.less_is_better else ""


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
