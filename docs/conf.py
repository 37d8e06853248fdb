"""How Sphinx builds the documentation; ``make docs`` runs it, and takes warnings for errors."""

from __future__ import annotations

import sys
from pathlib import Path

from cts_core.version import VERSION

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "CTS for Jupyter"
author = "The CTS for Jupyter developers"
release = version = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "cts_reference"]
exclude_patterns = ["_build", "_ext"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
add_module_names = False

smartquotes = False  # quotes in help texts are typed as they stand
nitpicky = True
nitpick_ignore_regex = [
    # The inventories of other projects are not fetched: the documentation builds without a network.
    (
        r"py:.*",
        r"(collections|datetime|enum|httpx|pathlib|pandas|pd|pydantic|ssl|traitlets|types)\b.*",
    ),
    # Base classes of the client, whose members are shown on CTSClient.
    (r"py:meth", r"\w*Endpoints\.\w+"),
]

nitpick_ignore = [
    # autodoc writes what annotates a type by its bare name.
    ("py:class", "timedelta"),
    ("py:class", "BeforeValidator"),
    ("py:class", "_as_file"),
    # Not public: Job.as_line says what it does.
    ("py:func", "cts_jupyter.notebook.serialize.as_line"),
]

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {VERSION}"
html_static_path = ["_static"]
html_css_files = ["cts.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False
html_theme_options = {
    "logo": {"text": project},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navbar_end": ["theme-switcher"],
    "show_toc_level": 2,
    "show_prev_next": True,
    "footer_start": [],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": []}
