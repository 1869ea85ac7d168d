"""The report's section on parity: what of the trained network the file computes, on which kernels.

It shows the contents of `parity.json`, which `export.parity` makes.
"""

import html
from collections.abc import Mapping

from mmx_tf.notation import percent
from mmx_tf.report.scores import NAMED, agreement_of

KERNELS = {
    "xnnpack": "XNNPACK (the default)",
    "builtin": "builtin kernels",
    "reference": "reference kernels",
}


def parity_section(parity: Mapping | None) -> str:
    """Kernels side by side, then every operator; empty without a certificate."""
    if not parity:
        return ""
    runtimes = parity["runtimes"]
    return (
        "<h2>Parity of the file</h2><p>Each operator of the file was given its true inputs, the folded "
        "network's own codes, and its output compared code by code; then the whole file was run. The "
        "rounding of an operator is known where a plain interpreter, written from the specification, gives "
        "its codes from the file alone.</p>"
        + _kernels_table(runtimes, NAMED[parity.get("task", "classification")][0])
        + _operators_table(runtimes)
        + "".join(
            f'<p class="muted">{html.escape(why)}</p>'
            for key in ("unable", "unpacked")
            for why in parity.get(key, {}).values()
        )
        + f'<p class="muted">SHA-256 of the file: {html.escape(parity["sha256"])}</p>'
    )


def _kernels_table(runtimes: Mapping, same: str) -> str:
    rows = []
    for name, runtime in runtimes.items():
        operators = runtime["operators"]
        codes = sum(operator["codes"] for operator in operators)
        differing = sum(operator["differing"] for operator in operators)
        largest = max(operator["largest_difference"] for operator in operators)
        explained = sum(operator["rules"] is not None for operator in operators)
        exact = sum(not operator["differing"] for operator in operators)
        cells = (
            f"{runtime['images']:,}",
            f"{exact} of {len(operators)}",
            f"{differing:,} of {codes:,}",
            str(largest),
            f"{explained} of {len(operators)}",
            percent(agreement_of(runtime)),
            percent(runtime["code_disagreement"]),
        )
        label = html.escape(KERNELS.get(name, name))
        rows.append(f'<tr><td class="text">{label}</td>' + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return (
        '<div class="scroll"><table><thead><tr><th class="text">kernels</th><th>images</th>'
        "<th>operators without a difference</th><th>codes that differ</th><th>by at most</th>"
        "<th>operators whose rounding is known</th>"
        f"<th>{same}, whole file</th><th>logit codes that differ, whole file</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _operators_table(runtimes: Mapping) -> str:
    shares: dict[tuple[str, str], dict[str, float]] = {}
    for name, runtime in runtimes.items():
        for operator in runtime["operators"]:
            key = (operator["name"], operator["kind"])
            shares.setdefault(key, {})[name] = operator["differing"] / operator["codes"]
    heads = "".join(f"<th>{html.escape(KERNELS.get(name, name))}</th>" for name in runtimes)
    rows = "".join(
        f'<tr><td class="text">{html.escape(name)}</td><td class="text">{html.escape(kind)}</td>'
        + "".join(f"<td>{percent(by_kernels.get(k, float('nan')))}</td>" for k in runtimes)
        + "</tr>"
        for (name, kind), by_kernels in shares.items()
    )
    return (
        "<details><summary>Share of differing codes, operator by operator</summary>"
        '<div class="scroll"><table><thead><tr><th class="text">operator</th><th class="text">kind</th>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )
