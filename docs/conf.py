"""How Sphinx builds the documentation: `make docs`. Warnings are errors."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "mtcore"
author = "the mtcore developers"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "api_reference",  # this and the next are in _ext
    "cli_reference",
    "docstrings",
    "hook_reference",
]
exclude_patterns = ["_build", "_ext", "_static", "generate"]

html_theme = "furo"
html_title = "mtcore"
html_copy_source = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_heading_anchors = 3

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_use_rtype = False
