"""Sphinx's settings of the documentation: `make docs` builds it into build/site, with warnings as errors."""

import pathlib
import sys

_HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE.parent), str(_HERE)]

import made_pages  # noqa: E402

from mmx_tf.version import VERSION  # noqa: E402

project = "mmx_tf"
author = "the mmx_tf authors"
version = release = VERSION
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]

html_theme = "furo"
html_title = f"mmx_tf {VERSION}"
html_copy_source = False
html_show_sphinx = False
smartquotes = False  # They make a dash of the -- of a flag.
copybutton_exclude = ".linenos, .gp"

# [text](page.md#heading) is a link to a heading of up to this depth.
myst_heading_anchors = 3
myst_enable_extensions = ["attrs_inline", "colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False


def setup(app):
    """Makes the pages that come from the code, before Sphinx looks for pages."""
    app.connect("builder-inited", lambda app: made_pages.write(pathlib.Path(app.srcdir)))
    app.connect("autodoc-process-docstring", _with_bars)


def _with_bars(app, what, name, obj, options, lines):
    """A bar is an absolute value in our docstrings, and a substitution in reStructuredText."""
    lines[:] = [line.replace("|", r"\|") for line in lines]
