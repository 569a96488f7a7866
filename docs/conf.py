"""Configuration of the documentation: ``python -m sphinx -W --keep-going -n docs build/site``.

The API reference comes from the docstrings of the installed package; nothing is fetched from the network.
"""

import importlib.util
import re
import shutil
from pathlib import Path

from docutils.nodes import Text
from sphinx.ext.autodoc.mock import _MockObject
from sphinx.util.nodes import make_refnode

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


MODULES = {
    "fastseqloss": "fastseqloss",
    "fsl": "fastseqloss",
    "fst": "fastseqloss.torch",
    "fsj": "fastseqloss.jax",
}
MODULE_OF_PAGE = {"jax": "fastseqloss.jax", "pytorch": "fastseqloss.torch", "recurrent": "fastseqloss.recurrent"}
# A name after its module, or without one if arguments follow or nothing else is there.
NAME = re.compile(
    rf"(?<![\w./])(?:(?:{'|'.join(MODULES)})(?:\.[A-Za-z_]\w*)+|[A-Za-z_][\w.]*(?=\())|^[A-Za-z_][\w.]*(?=$|\[)"
)
HIGHLIGHTED = re.compile(
    r'(?<!<span class="o">\.</span>)<span class="n">\w+</span>(?:<span class="o">\.</span><span class="n">\w+</span>)*'
)
IMPORT = re.compile(r"\bfrom (fastseqloss[\w.]*) import (\w+(?:, *\w+)*)")
LINKED = ("reference", "title", "term")  # links already, and headings
BREAKS = re.compile(r"(?<=[.,(=\[])(?=[\w\"'-])")  # where a line may end within code of a table


def documented(app, docname, name):
    """Return the entry of the API reference for a name in the code of a page; None if there is no such entry."""
    first, _, rest = name.partition(".")
    own = MODULE_OF_PAGE.get(docname) or docname.removeprefix("generated/").rpartition(".")[0]
    objects = app.env.get_domain("py").objects
    for path in (f"{MODULES.get(first, first)}.{rest}", f"{own}.{name}", f"fastseqloss.{name}"):
        if path in objects:
            return objects[path] if objects[path].docname != docname else None
    return None


def of_others(code):
    """Return True if code is in the column of a table that lists the functions of other libraries."""
    entry = code.parent
    while entry is not None and entry.tagname != "entry":
        entry = entry.parent
    if entry is None or entry.parent.index(entry) > 0:
        return False
    head = next(entry.parent.parent.parent.findall(lambda node: node.tagname == "thead"), None)
    return head is not None and head[0][0].astext() == "instead of"


def link_names(app, doctree, docname):
    """Make links of the names of the package in text that pages set as code."""
    for code in list(doctree.findall(lambda node: node.tagname == "literal")):
        if code.parent.tagname in LINKED or of_others(code):
            continue
        text, end, parts = code.astext(), 0, []
        for match in NAME.finditer(text):
            entry = documented(app, docname, match[0])
            if entry:
                link = make_refnode(app.builder, docname, entry.docname, entry.node_id, Text(match[0]))
                parts += [Text(text[end : match.start()]), link]
                end = match.end()
        if parts:
            code.children = []
            code += [part for part in [*parts, Text(text[end:])] if part.astext()]


def link_blocks(app, pagename, templatename, context, doctree):
    """Make links of the names of the package in blocks of code: those after a module, and imported ones."""
    if doctree is None:
        return
    blocks = "\n".join(node.astext() for node in doctree.findall(lambda node: node.tagname == "literal_block"))
    imported = {name: f"{module}.{name}" for module, names in IMPORT.findall(blocks) for name in re.split(", *", names)}

    def linked(match):
        first, dot, rest = re.sub("<.*?>", "", match[0]).partition(".")
        module = imported.get(first) or (MODULES.get(first) if dot else None)
        entry = documented(app, pagename, module + dot + rest) if module else None
        if entry is None:
            return match[0]
        page = app.builder.get_relative_uri(pagename, entry.docname)
        return f'<a class="reference internal" href="{page}#{entry.node_id}">{match[0]}</a>'

    context["body"] = HIGHLIGHTED.sub(linked, context["body"])


def break_lines(app, pagename, templatename, context, doctree):
    """Let lines end behind punctuation in the code of tables, and not within names."""

    def broken(cell):
        return re.sub(r'(?<=<span class="pre">)[^<]+', lambda text: BREAKS.sub("<wbr>", text[0]), cell[0])

    context["body"] = re.sub("<td.*?</td>", broken, context.get("body", ""), flags=re.DOTALL)


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
    app.connect("doctree-resolved", link_names)
    app.connect("html-page-context", link_blocks)
    app.connect("html-page-context", break_lines)
    app.connect("autodoc-skip-member", skip_tuple_fields)
    app.connect("autodoc-process-signature", inherited_parameters)
