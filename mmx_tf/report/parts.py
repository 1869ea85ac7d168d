"""What the report's sections are made of: figures as data URLs and tables of bars.

The macros of `templates/parts.html.jinja` show them.
"""

import base64
import dataclasses
from collections.abc import Callable

from matplotlib.figure import Figure

from mmx_tf.report import plots, themes


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure as two SVG images inside data URLs: `light` for light screens and print, `dark` for dark ones.

    `alt` tells those who cannot see it what it shows; `caption` stands below it and may be empty.
    """

    light: str
    dark: str
    alt: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Bar:
    """A row of `Meters`.

    `part` is the bar's length as a share of the longest one; `look` is its class in report.css.
    """

    name: str
    value: str
    part: float
    look: str = "plain"

    @property
    def width(self) -> str:
        """The bar's length as CSS has it."""
        return f"{100 * min(max(self.part, 0), 1):.2f}%"


@dataclasses.dataclass(frozen=True)
class Meters:
    """A table of names, values and bars."""

    caption: str
    bars: tuple[Bar, ...]


def picture(draw: Callable[[themes.Theme], Figure], alt: str, caption: str = "") -> Picture:
    """Draws a figure once, in stand-in colours, and paints it for both themes."""
    drawn = plots.render(draw(themes.MARKS), "svg").decode()
    light, dark = (
        "data:image/svg+xml;base64," + base64.b64encode(themes.painted(drawn, theme).encode()).decode()
        for theme in (themes.LIGHT, themes.DARK)
    )
    return Picture(light, dark, alt, caption)
