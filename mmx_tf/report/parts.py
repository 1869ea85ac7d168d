"""What the report's sections are made of: figures as data URLs and tables of bars.

The macros of `templates/parts.html.jinja` show them.
"""

import base64
import dataclasses
from collections.abc import Callable

from matplotlib.figure import Figure

from mmx_tf.report import plots, themes

FULL_WIDTH = 16
"""Width in inches of a figure that is as wide as the page: letters of all figures then have one size."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure as two SVG images inside data URLs: `light` for light screens and print, `dark` for dark ones.

    `part` is the share of the page's width that it takes.

    `alt` tells those who cannot see it what it shows. Below it stand `look`, which says what to look for, and
    `caption`, which may be empty.
    """

    light: str
    dark: str
    alt: str
    look: str
    caption: str
    part: float

    @property
    def width(self) -> str:
        """Its width as CSS has it."""
        return f"{100 * self.part:.2f}%"

    @property
    def size(self) -> str:
        """Its class in report.css, which says from which width of the screen on it scrolls sideways."""
        return "full" if self.part > 0.9 else "half" if self.part > 0.4 else "small"


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
    """A table of names, values and bars; `look` stands below it and says what to look for."""

    caption: str
    bars: tuple[Bar, ...]
    look: str


def picture(draw: Callable[[themes.Theme], Figure], alt: str, look: str, caption: str = "") -> Picture:
    """Draws a figure once, in stand-in colours, and paints it for both themes."""
    figure = draw(themes.MARKS)
    drawn = plots.render(figure, "svg").decode()
    light, dark = (
        "data:image/svg+xml;base64," + base64.b64encode(themes.painted(drawn, theme).encode()).decode()
        for theme in (themes.LIGHT, themes.DARK)
    )
    return Picture(light, dark, alt, look, caption, figure.get_figwidth() / FULL_WIDTH)
