"""The report's section on microcontrollers: RAM over the steps of the C source, and flash."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from mmx_tf.notation import some
from mmx_tf.report import plots
from mmx_tf.report.comparison import Comparison
from mmx_tf.report.gains import beside
from mmx_tf.report.parts import Bar, Meters, Picture, picture
from mmx_tf.report.themes import Theme

_STEPS = (
    "Look for the highest step: what lives there sets the RAM. Where the filled area reaches the line, "
    "packing saves nothing."
)
_LOOK = {
    "ram_bytes": "Look for how far the lower bar falls behind the upper one: that much RAM the low bits "
    "save.",
    "flash_bytes": "Look for the same in flash: the constants, which are weights for the most part.",
}
_ADDED = re.compile(r"_(input_quantizer|carrier)(_lower_clip|_shared|_\d+)*$")
"""What is added to the name of a layer whose input or output is stored on a grid of its own."""
NAMES = {"int8": "8 bits everywhere", "packed": "packed"}


@dataclasses.dataclass(frozen=True)
class Memory:
    """The section: RAM and flash as bars, RAM over steps, and what to look for."""

    ram: Meters
    flash: Meters
    figure: Picture
    words: str


def memory(document: Mapping | None, compared: Comparison | None = None) -> Memory | str | None:
    """The section of what `export.c_source.memory_facts` gives.

    Args:
      document: what it gives; None where nothing was recorded.
      compared: the comparison on the same page, whose plain int8 is another program than 8 bits everywhere.

    Returns:
      The section; the reason where the file has no C source; None where nothing was recorded.
    """
    if not document:
        return None
    if "refused" in document:
        return document["refused"]
    ram, flash = (
        _bars(document, key, what) for key, what in (("ram_bytes", "RAM"), ("flash_bytes", "flash"))
    )
    packed, wide = document["packed"], document["int8"]
    share = packed["ram_bytes"] / wide["ram_bytes"]
    words = (
        f"Packed activations take {packed['ram_bytes']:,} bytes at the fullest step, {beside(share)} 8 bits "
        f"take. Live at that step: {some(_layers(packed['peak']), 4)}. Fewer bits pay where the line is "
        "highest: --target_ram lowers the tensors there and leaves the others at the most bits."
    )
    if packed["ram_bytes"] == wide["ram_bytes"] and packed.get("wide"):
        words += (
            " Both are equal here, since what fills that step has 8 bits in either: "
            f"{some(_layers(packed['wide']), 4)}. Tensors that are added or read by several layers are "
            "stored in 8 bits (carriers), and those of layers for which 8 bits were chosen. Fewer bits "
            "elsewhere do not change it."
        )
    int8 = [one.figures for one in compared.candidates if one.key == "int8"] if compared else []
    if any(figures.get(key, wide[key]) != wide[key] for figures in int8 for key in _LOOK):
        words += (
            " 8 bits everywhere is this file's own network with 8 bits for every activation and weight; "
            "plain int8 in the table above is another file, which AI Edge Quantizer made, with operators and "
            "constants of its own: so their figures differ."
        )
    alt = (
        f"Bytes of activations that are live at each of {len(packed['steps'])} steps: "
        f"{packed['ram_bytes']:,} at most when packed, {wide['ram_bytes']:,} with 8 bits everywhere."
    )
    return Memory(ram, flash, picture(lambda theme: ram_figure(document, theme=theme), alt, _STEPS), words)


def ram_figure(document: Mapping, *, theme: Theme) -> Figure:
    """Bytes that are live at each step of the C source, packed and with 8 bits everywhere."""
    figure = Figure(figsize=(16, 4.6), facecolor=theme.paper, layout="constrained")
    axes = figure.subplots()
    plots.dress(axes, theme)
    for (width, name), colour in zip(NAMES.items(), (theme.muted, theme.lines[0]), strict=True):
        live = [count / 1000 for count in document[width]["live_bytes"]]
        edges = range(len(live) + 1)
        axes.stairs(live, edges, fill=width == "packed", color=colour, linewidth=2, label=name)
    live = document["packed"]["live_bytes"]
    fullest = live.index(max(live))
    most = max(max(document[width]["live_bytes"]) for width in NAMES) / 1000
    axes.annotate(
        f"{layer_of(document['packed']['steps'][fullest])}: {live[fullest] / 1000:,.1f} kB packed",
        (fullest + 0.5, live[fullest] / 1000),
        # Above both curves, so that neither runs through it.
        xytext=(fullest + 0.5, 1.11 * most),
        arrowprops={"arrowstyle": "-", "color": theme.muted},
        ha="left" if fullest < len(live) / 2 else "right",
        va="top",
        fontsize=11,
        color=theme.ink,
        parse_math=False,
    )
    axes.set_ylim(0, 1.12 * most)
    axes.set_xlabel("step of the network, in the order of its layers", fontsize=11, color=theme.muted)
    axes.set_ylabel("activations in RAM, kB", fontsize=12, color=theme.ink)
    axes.xaxis.get_major_locator().set_params(integer=True)
    plots.literally(axes.legend(frameon=False, fontsize=11, labelcolor=theme.ink))
    return figure


def layer_of(tensor: str) -> str:
    """What the user's network calls a tensor of the file.

    >>> layer_of("conv_input_quantizer_lower_clip"), layer_of("block_2_add"), layer_of("add_carrier_2")
    ('the input of conv', 'block_2_add', 'add')
    """
    found = _ADDED.search(tensor)
    if not found:
        return tensor
    layer = tensor[: found.start()]
    return f"the input of {layer}" if found[1] == "input_quantizer" else layer


def _layers(tensors: Sequence[str]) -> list[str]:
    """The layers of tensors in their order, each once."""
    return list(dict.fromkeys(map(layer_of, tensors)))


def _bars(document: Mapping, key: str, what: str) -> Meters:
    longest = max(document[width][key] for width in NAMES) or 1
    bars = tuple(
        Bar(
            name,
            f"{document[width][key]:,} bytes",
            document[width][key] / longest,
            "" if width == "packed" else "plain",
        )
        for width, name in NAMES.items()
    )
    return Meters(f"{what} on a microcontroller (C source)", bars, _LOOK[key])
