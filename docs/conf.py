"""The documentation site: `make docs` builds it with Sphinx, from the Markdown that a code host shows, too.

The sources are the whole checkout, so every relative link of a page is right in both places: pages become pages, any
other file (an example, a source) is copied and linked. Nothing is fetched, neither while building nor while reading.
"""

import re
from pathlib import Path

project = "worker_state"
html_title = "worker_state"
copyright = "the worker-state contributors"
root_doc = "docs/index"
include_patterns = ["docs/**", "*.md", "benchmarks/results/*"]
exclude_patterns = [".*", "build", "dist", "htmlcov", "mutants", "src", "tests"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.viewcode",
    "sphinxcontrib_trio",  # says which functions are async, and which are context managers
]
myst_heading_anchors = 4
myst_links_external_new_tab = False
highlight_language = "text"
smartquotes = False  # `--json` in prose stays what it is
default_role = "code"  # docstrings have single backticks, as the pages do

add_module_names = False
python_use_unqualified_type_names = True
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
maximum_signature_line_length = 60

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_site"]  # an index.html that leads to the first page
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "monokai"


def _with_factories(_app, _what, _name, _obj, _options, signature, returned):
    """A default that is made anew each time is no Python: `timing: Timing = <factory>`."""
    return (signature or "").replace("<factory>", "...") or None, returned


HERE = Path(__file__).parent


def _with_navigation(_app, docname, source):
    """The side bar has the first page's parts: what each one links to, in its order, and what it has forgotten."""
    if docname != root_doc:
        return
    for part in re.split(r"^## ", source[0], flags=re.MULTILINE)[1:]:
        title = part.partition("\n")[0]
        linked = re.findall(r"\]\(([^)#:]+)\.md\)", part)
        folder = ".." if title == "Project" else title.lower()
        others = sorted(f"{folder}/{page.stem}" for page in (HERE / folder).glob("*.md") if page.stem != "README")
        entries = "\n".join(dict.fromkeys([*linked, *others])).replace("../README", "Readme <../README>")
        source[0] += f"\n```{{toctree}}\n:caption: {title}\n:hidden:\n\n{entries}\n```\n"


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", _with_navigation)
    app.connect("autodoc-process-signature", _with_factories)
