"""The report's section on parity: how exactly the file computes the trained network on each set of kernels.

It shows the contents of `parity.json`, which `export.parity` writes.
"""

import math
from collections.abc import Mapping

from mmx_tf.report.scores import NAMED, agreement_of

KERNELS = {
    "xnnpack": "XNNPACK (the default)",
    "builtin": "builtin kernels",
    "reference": "reference kernels",
}


def certificate(parity: Mapping | None) -> dict[str, object] | None:
    """The values of `parity.html.jinja`; None without a certificate."""
    if not parity:
        return None
    runtimes = parity["runtimes"]
    return {
        "same": NAMED[parity.get("task", "classification")][0],
        "kernels": [_of_kernels(name, runtime) for name, runtime in runtimes.items()],
        "operators": _of_operators(runtimes),
        "reasons": [why for key in ("unable", "unpacked") for why in parity.get(key, {}).values()],
        "sha256": parity["sha256"],
    }


def _of_kernels(name: str, runtime: Mapping) -> dict[str, object]:
    """The row of one set of kernels: how far operators and whole file are from the folded network."""
    operators = runtime["operators"]
    return {
        "label": KERNELS.get(name, name),
        "images": runtime["images"],
        "operators": len(operators),
        "exact": sum(not operator["differing"] for operator in operators),
        "explained": sum(operator["rules"] is not None for operator in operators),
        "codes": sum(operator["codes"] for operator in operators),
        "differing": sum(operator["differing"] for operator in operators),
        "largest": max(operator["largest_difference"] for operator in operators),
        "agreement": agreement_of(runtime),
        "code_disagreement": runtime["code_disagreement"],
    }


def _of_operators(runtimes: Mapping) -> list[dict[str, object]]:
    """One row per operator: its share of differing codes on each runtime; NaN where it did not run."""
    shares: dict[tuple[str, str], dict[str, float]] = {}
    for runtime, found in runtimes.items():
        for operator in found["operators"]:
            key = (operator["name"], operator["kind"])
            shares.setdefault(key, {})[runtime] = operator["differing"] / operator["codes"]
    return [
        {"name": name, "kind": kind, "shares": [of_runtime.get(runtime, math.nan) for runtime in runtimes]}
        for (name, kind), of_runtime in shares.items()
    ]
