"""One table of what is claimed of speed and memory, from the results of the other benchmarks.

    python -m benchmarks.performance --json=results/performance.json

reads results/performance/*.json and results/export/latency.json, measures nothing itself, and prints the
table as Markdown. Every claim is a ratio of two things measured side by side, with the largest ratio that is
aimed at; a claim without one only says how it is.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Iterator

from benchmarks import command_line, measuring

MODULE = "benchmarks.performance"
RESULTS = pathlib.Path(__file__).resolve().parents[1] / "results"
CANDIDATES = 3
"""B, the number of candidate bit-widths of `benchmarks.ways_to_train`."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is claimed of one result.

    Attributes:
      text: the claim, without the case (a network, a shape).
      source: the result's path below the folder of results.
      ratios: the result's document -> pairs (case, ratio).
      target: the largest ratio that meets the claim; None if nothing is aimed at.
    """

    text: str
    source: str
    ratios: Callable[[dict], Iterator[tuple[str, float]]]
    target: float | None = None


def of_median(name: str, reference: str, *, key: str = "median", case: str | None = None):
    """What reads `name` over `reference` from a document of summaries, one for each case or for one case.

    The ratio is the measured one where the summary's own reference is asked for; cases in which either
    was refused or not run give none.
    """

    def ratios(document):
        for found, summary in document["results"].items():
            numerator, denominator = summary.get(name, {}), summary.get(reference, {})
            if case in (None, found) and key in numerator and key in denominator:
                measured = key == "median" and denominator["ratio"] == 1
                yield found, numerator["ratio"] if measured else numerator[key] / denominator[key]

    return ratios


def of_traces(document):
    """How often the training function of the search was traced, for each network."""
    for network, summary in document["results"].items():
        yield network, float(summary["search"]["traces"])


def of_latency(document):
    """The default file over tfmot's 8-bit file, for each number of threads."""
    medians = {(row["model"], row["threads"]): row["median_ms"] for row in document["results"]}
    for (model, threads), median in medians.items():
        if model == "mmx_tf" and ("tfmot_8bit", threads) in medians:
            case = f"{threads} thread" + ("s" if threads > 1 else "")
            yield case, median / medians["tfmot_8bit", threads]


_OP, _STEPS = "performance/quantizer_op.json", "performance/training_steps.json"
_MEMORY, _TRACING = "performance/peak_memory.json", "performance/tracing.json"
_EXPORT, _INPUT = "performance/export_time.json", "performance/input_pipeline.json"
_SHAPE = "128x32x32x64"

CLAIMS = (
    Claim(
        "quantizer, forward and backward, over ReLU",
        _OP,
        of_median("activation_quantizer", "relu", case=_SHAPE),
        1.5,
    ),
    Claim(
        "one branch of the search's quantizer over ReLU",
        _OP,
        of_median("one_branch", "relu", case=_SHAPE),
        1.5,
    ),
    Claim("all branches mixed over ReLU", _OP, of_median("mixed", "relu", case=_SHAPE)),
    Claim(
        "quantizer over the same in plain TensorFlow ops",
        _OP,
        of_median("activation_quantizer", "plain_lsq", case=_SHAPE),
    ),
    Claim(
        f"bit-meta step of {CANDIDATES} candidates over a float step",
        _STEPS,
        of_median("meta", "float"),
        1.15 * CANDIDATES,
    ),
    Claim("bit-search step over a float step", _STEPS, of_median("search", "float"), 1.0),
    Claim("fixed-bit step over a float step", _STEPS, of_median("fixed", "float"), 1.2),
    Claim("fixed-bit step over tfmot's 8-bit step", _STEPS, of_median("fixed", "tfmot_8bit"), 1.0),
    Claim("fixed-bit step over tfmot's n-bit step", _STEPS, of_median("fixed", "tfmot_n_bit")),
    *(
        Claim(f"{way} step in bfloat16 over one in float32", _STEPS, of_median(f"{way}:bfloat16", way))
        for way in ("float", "meta", "search", "fixed")
    ),
    Claim(
        "peak memory of the search over float training", _MEMORY, of_median("meta_and_search", "float"), 1.3
    ),
    Claim(
        "the same, less what is held before the first step",
        _MEMORY,
        of_median("meta_and_search", "float", key="added"),
    ),
    Claim("peak memory of fixed-bit training over float training", _MEMORY, of_median("fixed", "float")),
    Claim("traces of the search's training step in 3 epochs", _TRACING, of_traces, 1.0),
    Claim(
        "the search's first call over float training's",
        _TRACING,
        of_median("search", "float", key="first_call"),
    ),
    Claim(
        "fold and convert over tfmot's 8-bit conversion", _EXPORT, of_median("fold_and_convert", "tfmot_8bit")
    ),
    Claim(
        "fold and convert over post-training int8",
        _EXPORT,
        of_median("fold_and_convert", "post_training_int8"),
    ),
    # 0.9 of the throughput is 1 / 0.9 of the time.
    Claim(
        "time of a training image over that of decoding it",
        _INPUT,
        of_median("pipeline", "bare_decoding"),
        1 / 0.9,
    ),
    Claim("latency of the file over tfmot's 8-bit file", "export/latency.json", of_latency),
)


def collected(results: pathlib.Path) -> list[dict]:
    """One row for each claim and case, in order.

    Args:
      results: the folder of results.

    Returns:
      Rows of `claim`, `case`, `ratio`, `target`, `met`, `command`. A claim whose result is missing, or has
      no case of it, has one row whose ratio is None; `met` is None without a target or a ratio.
    """
    rows = []
    for claim in CLAIMS:
        path = results / claim.source
        document = json.loads(path.read_text()) if path.exists() else None
        found = list(claim.ratios(document)) if document else []
        for case, ratio in found or [(None, None)]:
            known = ratio is not None and claim.target is not None
            rows.append(
                {
                    "claim": claim.text,
                    "case": case,
                    "ratio": ratio,
                    "target": claim.target,
                    "met": ratio <= claim.target if known else None,
                    "command": document["command"] if document else None,
                }
            )
    return rows


def markdown(rows: list[dict]) -> str:
    """The rows as a table."""
    lines = ["| claim | case | ratio | at most | met | command |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = "not measured" if row["ratio"] is None else f"{row['ratio']:.2f}"
        target = "" if row["target"] is None else f"{row['target']:.2f}"
        met = {True: "yes", False: "**no**", None: ""}[row["met"]]
        command = f"`{row['command']}`" if row["command"] else ""
        lines.append(f"| {row['claim']} | {row['case'] or ''} | {ratio} | {target} | {met} | {command} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Collects, prints the table; returns the exit code."""
    parser = command_line.argument_parser(MODULE, __doc__)
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="folder; default: results/")
    options = parser.parse_args(argv)
    if not options.results.is_dir():
        parser.error(f"--results={options.results}: there is no such folder.")
    rows = collected(options.results)
    if all(row["ratio"] is None for row in rows):
        sources = ", ".join(sorted({claim.source for claim in CLAIMS}))
        parser.error(f"--results={options.results} has none of {sources}; run the benchmarks first.")
    print(markdown(rows))
    if options.json:
        measuring.write_json(options.json, {"rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
