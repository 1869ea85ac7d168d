"""The colours of figures on light and on dark screens (Okabe and Ito's, which stay apart for all eyes)."""

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
        """The colour of layer kind `name`; kinds that we do not know are grey."""
        return self.kinds.get(name, "#8c8c8c")


LIGHT = Theme(
    ink="#1f2328",
    muted="#59636e",
    grid="#dfe3e8",
    paper="#ffffff",
    kinds={"conv": "#0072b2", "depthwise": "#f0a500", "dense": "#009e73"},
    lines=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
)
DARK = Theme(
    ink="#e6edf3",
    muted="#9aa4af",
    grid="#343b44",
    paper="#161b22",
    kinds={"conv": "#56b4e9", "depthwise": "#f0c030", "dense": "#2fc99a"},
    lines=("#56b4e9", "#ff8f5e", "#2fc99a", "#e59cc4", "#f0c030", "#8ab4f8"),
)
