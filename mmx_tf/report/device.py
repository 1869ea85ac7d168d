"""What the device of a run takes, by its own tool, for the page and the terminal.

>>> lines({"name": "ethos-u55-128", "figures": {"cycles": 7550}, "budgets": {}})
[('cycles', '7,550')]
"""

from collections.abc import Mapping

NAMES = {
    "device_latency_ms": "time of one image",
    "device_flash_bytes": "flash",
    "device_dram_bytes": "DRAM",
    "device_sram_bytes": "SRAM",
    "latency_ms": "time of one image on this CPU",
    "ram_bytes": "RAM of activations",
    "flash_bytes": "flash of constants",
    "onnx_bytes": "size of the .onnx",
    "bops": "BOPs of one image",
    "on_the_cpu": "operators left on the CPU",
}
BUDGETS = {"target_flash": "flash", "target_latency": "time of one image"}


def lines(device: Mapping | None) -> list[tuple[str, str]]:
    """(what, figure) of the entry `device` of the metrics, budgets last; [] without one."""
    if not device:
        return []
    if "refused" in device:
        return [("refused", device["refused"])]
    found = [(NAMES.get(name, name), _text(name, value)) for name, value in device["figures"].items()]
    return found + [(f"budget of {what}", told) for what, told in budgets(device)]


def budgets(device: Mapping | None) -> list[tuple[str, str]]:
    """(what, figure with budget and verdict) of each budget that the device's own tool measures."""
    found = []
    for name, one in (device or {}).get("budgets", {}).items():
        verdict = "met" if one["met"] else "EXCEEDED"
        text = f"{one['figure']:,.6g} {one['unit']} (budget {one['target']:,.6g}): {verdict}"
        found.append((BUDGETS.get(name, name), text))
    return found


def _text(name: str, value) -> str:
    if isinstance(value, str):
        return value
    if name.endswith("_ms"):
        return f"{value:.4g} ms"
    return f"{value:,} bytes" if name.endswith("_bytes") else f"{value:,}"
