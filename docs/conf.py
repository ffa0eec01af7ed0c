"""Sphinx configuration; the manual builds and shows without a network."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import pyro_seq

project = "pyro_seq"
author = "the pyro_seq authors"
copyright = author
version = release = pyro_seq.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "_static"]
templates_path = ["_templates"]
default_role = "literal"  # `name` in a docstring is code

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

doctest_test_doctest_blocks = ""  # docstrings are run by pytest

mathjax_path = "mathjax/tex-svg-full.js"
mathjax3_config = {"options": {"enableMenu": False}}

html_theme = "pydata_sphinx_theme"
html_title = "pyro_seq"
html_static_path = ["_static"]
html_show_sourcelink = False
html_sidebars = {page: [] for page in ("install", "notation", "design", "contributing", "changelog")}
html_theme_options = {
    "footer_start": ["copyright"],
    "footer_end": [],
    "navigation_with_keys": False,
    "show_toc_level": 2,
}

_DISPLAY = re.compile(r"^(?P<indent> *)\$\$(?P<body>.+?)\$\$$", flags=re.MULTILINE | re.DOTALL)


def _display_math(app, what, name, obj, options, lines):
    """Let docstrings write an equation between double dollars, as the pages do."""
    text = _DISPLAY.sub(_math_directive, "\n".join(lines))
    lines[:] = text.split("\n")


def _math_directive(match):
    indent = match["indent"]
    body = [line.strip() for line in match["body"].strip().split("\n")]
    return "\n".join([f"{indent}.. math::", "", *(f"{indent}    {line}" for line in body), ""])


def _skip_fields(app, what, name, obj, skip, options):
    """Leave the fields of a named tuple to the docstring of its class."""
    return skip or type(obj).__name__ == "_tuplegetter"


def setup(app):
    app.connect("autodoc-process-docstring", _display_math)
    app.connect("autodoc-skip-member", _skip_fields)
