"""Fills in the pages' templates, which are the files in `templates`, with Jinja2.

    rendered("report.html.jinja", title="MetaMix report", facts=facts)

Jinja2 escapes every text that it puts into a page (names of layers, networks and datasets, flags,
versions), so none of them can become markup. No Python code of this room makes HTML.
"""

import functools
from collections.abc import Iterable

from mmx_tf.notation import percent, si


def rendered(name: str, **values: object) -> str:
    """The text of template `name`, filled in with `values`.

    Raises:
      jinja2.TemplateNotFound: there is no such template.
      jinja2.UndefinedError: the template asks for a value that it was not given.
    """
    return _environment().get_template(name).render(values)


def listed(parts: Iterable[str]) -> str:
    """Words as a list in a sentence: ["a", "b", "c"] -> 'a, b and c'. There is at least one."""
    *head, last = parts
    return f"{', '.join(head)} and {last}" if head else last


def thousands(number: float) -> str:
    """A number with commas: 1234567 -> '1,234,567'."""
    return f"{number:,}"


@functools.cache
def _environment():
    # Loaded here, since most of those who import this room write no page.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mmx_tf.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": percent, "si": si, "thousands": thousands}
    return environment
