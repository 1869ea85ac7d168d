"""The colours of figures on light and dark screens: Okabe and Ito's, which the colour-blind tell apart."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours of a figure: `ink` for text, `paper` behind it, one per layer kind, `lines` for curves."""

    ink: str
    muted: str
    grid: str
    paper: str
    kinds: Mapping[str, str]
    lines: tuple[str, ...]

    def kind(self, name: str) -> str:
        """The colour of layer kind `name`; an unknown kind is grey."""
        return self.kinds.get(name, "#8c8c8c")

    @property
    def colours(self) -> tuple[str, ...]:
        """All colours, in an order that is the same for all themes."""
        return (self.ink, self.muted, self.grid, self.paper, *self.kinds.values(), *self.lines)


LIGHT = Theme(
    ink="#1f2328",
    muted="#59636e",
    grid="#dfe3e8",
    paper="#ffffff",
    kinds={"conv": "#0072b2", "depthwise": "#f0a500", "dense": "#009e73", "transposed": "#cc79a7"},
    lines=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
)
DARK = Theme(
    ink="#e6edf3",
    muted="#9aa4af",
    grid="#343b44",
    paper="#161b22",
    kinds={"conv": "#56b4e9", "depthwise": "#f0c030", "dense": "#2fc99a", "transposed": "#e59cc4"},
    lines=("#56b4e9", "#ff8f5e", "#2fc99a", "#e59cc4", "#f0c030", "#8ab4f8"),
)
MARKS = Theme(
    ink="#fe0000",
    muted="#fe0001",
    grid="#fe0002",
    paper="#fe0003",
    kinds={"conv": "#fe0004", "depthwise": "#fe0005", "dense": "#fe0006", "transposed": "#fe000d"},
    lines=("#fe0007", "#fe0008", "#fe0009", "#fe000a", "#fe000b", "#fe000c"),
)
"""Stand-in colours: a figure is drawn in them once, and `painted` replaces them by those of each theme."""


def painted(svg: str, theme: Theme) -> str:
    """Replaces the colours of `MARKS`, in which an SVG figure was drawn, by those of `theme`."""
    for mark, colour in zip(MARKS.colours, theme.colours, strict=True):
        svg = svg.replace(mark, colour)
    return svg
