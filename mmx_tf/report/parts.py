"""What the report's sections are made of: figures as data URLs and tables of bars, as HTML."""

import base64
import html
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from mmx_tf.report import plots, themes


def picture(draw: Callable[[themes.Theme], Figure], alt: str, caption: str) -> str:
    """A figure as SVG images inside data URLs, for light screens and print and for dark ones.

    On a phone it scrolls sideways.
    """
    drawn = plots.render(draw(themes.MARKS), "svg").decode()
    light, dark = (
        "data:image/svg+xml;base64," + base64.b64encode(themes.painted(drawn, theme).encode()).decode()
        for theme in (themes.LIGHT, themes.DARK)
    )
    words = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><div class="scroll"><picture><source media="screen and (prefers-color-scheme: dark)" '
        f'srcset="{dark}"><img alt="{html.escape(alt)}" src="{light}"></picture></div>{words}</figure>'
    )


def meters(caption: str, rows: Sequence[tuple[str, str, float, str]]) -> str:
    """A table of (name, value as text, fraction of the longest bar, look of the bar)."""
    body = "".join(
        f'<tr><td class="text">{html.escape(name)}</td><td>{html.escape(value)}</td><td class="meter">'
        f'<span class="bar {look}" style="width:{100 * min(max(part, 0), 1):.2f}%"></span></td></tr>'
        for name, value, part, look in rows
    )
    return f'<table class="wide"><caption>{html.escape(caption)}</caption><tbody>{body}</tbody></table>'
