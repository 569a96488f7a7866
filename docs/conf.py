"""Configuration of the documentation: ``python -m sphinx -W --keep-going -n docs build/site``.

The API reference comes from the docstrings of the installed package; nothing is fetched from the network.
"""

import importlib.util
import re
import shutil
from inspect import ismodule
from pathlib import Path

from sphinx.addnodes import pending_xref
from sphinx.ext.autodoc.mock import _MockObject

import fastseqloss

project = "fastseqloss"
author = "The fastseqloss developers"
copyright = author
version = release = fastseqloss.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_templates", "performance"]  # performance/ holds what performance.md includes
# Frameworks that are not installed are replaced by mocks, so that the reference of the adapters needs none.
autodoc_mock_imports = [module for module in ("torch", "jax") if not importlib.util.find_spec(module)]

# The adapter of JAX registers its primitive by item assignment, which Sphinx's stand-in for a module does not have.
_MockObject.__setitem__ = lambda self, key, value: None
templates_path = ["_templates"]

myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_block", "attrs_inline"]
myst_heading_anchors = 3
nitpick_ignore = [
    ("py:obj", "chunk"),  # an argument, and the name of a module of Python
    ("py:obj", "functools.partial"),  # inventories of other projects would have to be fetched
    ("py:obj", "parameters"),  # an attribute of recurrent layers, described in the docstrings of the classes
    ("py:obj", "rewards"),  # an argument, and the name of an undocumented module
]

# Backticks in docstrings become links where they name something, and are set as code otherwise.
default_role = "autolink"
autosummary_generate = True
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the docstrings have the types; overloads would fill the page
numpydoc_show_class_members = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"fastseqloss {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "github-dark"


def own_mathjax():
    """Return the folder of the MathJax that the extra `docs` installs, None if it is not there."""
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    return Path(spec.origin).parent / "static" / "mathjax" if spec else None


if own_mathjax():  # otherwise Sphinx's default, from a CDN
    mathjax_path = "mathjax/tex-chtml.js"


def copy_mathjax(app, exception):
    """Put MathJax and its fonts beside the pages."""
    source, target = own_mathjax(), Path(app.outdir) / "_static" / "mathjax"
    if exception is None and source and app.builder.format == "html":
        fonts = Path("output") / "chtml" / "fonts" / "woff-v2"
        shutil.copytree(source / fonts, target / fonts, dirs_exist_ok=True)
        shutil.copy(source / "tex-chtml.js", target)


def strip_code(app, doctree):
    """Remove the empty line that ends a doctest."""
    for block in doctree.findall(lambda node: node.tagname == "literal_block"):
        text = block.astext().rstrip()
        block.rawsource = text
        block.children = [type(block.children[0])(text)]


NAMES = {name: f"fastseqloss.{name}" for name in fastseqloss.__all__ if not ismodule(getattr(fastseqloss, name))}
NAMES |= {f"fsl.{name}": path for name, path in NAMES.items()}


def link_names(app, doctree):
    """Make links of names of the package that pages write as code, followed by arguments or not."""
    for code in list(doctree.findall(lambda node: node.tagname == "literal")):
        name = re.split(r"[(\[]", code.astext())[0]
        if name in NAMES and not isinstance(code.parent, pending_xref) and code.parent.tagname not in LINKED:
            link = pending_xref("", refdomain="py", reftype="obj", reftarget=NAMES[name], refexplicit=True)
            link["refdoc"] = app.env.docname
            code.replace_self(link)
            link += code


LINKED = ("reference", "title", "term")  # links already, and headings


def skip_tuple_fields(app, what, name, obj, skip, options):
    """Leave out the fields of named tuples: the docstring of the class has them."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def inherited_parameters(app, what, name, obj, options, parameters, returns):
    """Write down those that a class has from PyTorch's, which may be a mock."""
    known = {"fastseqloss.torch.CTCLoss": "(blank=0, reduction='mean', zero_infinity=False)"}
    return (known[name], returns) if name in known else None


def setup(app):
    """Connect the functions above."""
    app.connect("build-finished", copy_mathjax)
    app.connect("doctree-read", strip_code)
    app.connect("doctree-read", link_names)
    app.connect("autodoc-skip-member", skip_tuple_fields)
    app.connect("autodoc-process-signature", inherited_parameters)
