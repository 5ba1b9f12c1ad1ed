"""Sphinx configuration: `python -m sphinx -W --keep-going docs docs/_build/html`."""

import inspect
import os
import re
import shutil
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from docutils import nodes
from sphinx.addnodes import pending_xref

import keras_uq_layers as uq

HERE = Path(__file__).parent

project = "keras_uq_layers"
author = "The keras_uq_layers developers"
copyright = author
version = release = uq.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_templates", "notebooks/README.md"]
templates_path = ["_templates"]
nitpicky = True
nitpick_ignore_regex = [("py:class", r"keras\..*")]  # Keras has no inventory

html_theme = "furo"
html_title = f"keras_uq_layers {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]

# Docstrings write code in single backticks, as Keras does.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [
    ("Call arguments", "params_style"),
    "Input shape",
    "Output shape",
    "Target shape",
]
autodoc_inherit_docstrings = False
autodoc_typehints = "none"  # the docstrings say the types
autodoc_member_order = "bysource"
autosummary_ignore_module_all = False

# The notebooks are committed with their outputs and executed by the tests.
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def is_layer(found):
    return inspect.isclass(found) and issubclass(found, keras.layers.Layer)


def is_no_layer(found):
    return not is_layer(found)


# The layers are at the top level, the rest in namespaces.
NAMESPACES = {
    "layers": (uq, is_layer),
    "prediction": (uq, is_no_layer),
    **{
        name: (getattr(uq, name), is_no_layer)
        for name in uq.__all__
        if inspect.ismodule(getattr(uq, name))
    },
}


def public_names(namespace, belongs):
    """What gets a page here: a name that is at the top level, too, has it there."""
    return [
        name
        for name in namespace.__all__
        if callable(value := getattr(namespace, name))
        and belongs(value)
        and (namespace is uq or name not in uq.__all__)
    ]


def write_api_pages(app, config):
    """One page for each namespace, from its `__all__`."""
    folder = HERE / "api"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, (namespace, belongs) in NAMESPACES.items():
        top = namespace is uq
        title = name.capitalize() if top else f"uq.{name}"
        lines = [
            title,
            "=" * len(title),
            "",
            "" if top else inspect.getdoc(namespace) or "",
            "",
            f".. currentmodule:: {namespace.__name__}",
            "",
            ".. autosummary::",
            "   :toctree: generated",
            "",
            *(f"   {entry}" for entry in public_names(namespace, belongs)),
            "",
        ]
        (folder / f"{name}.rst").write_text("\n".join(lines))


def link_names(app, doctree):
    """Makes a link of every public name in code, such as `uq.losses.CRPS`."""
    targets = {
        f"{namespace.__name__}.{name}".removeprefix("keras_uq_layers.")
        for namespace, belongs in NAMESPACES.values()
        for name in public_names(namespace, belongs)
    }
    for literal in list(doctree.findall(nodes.literal)):
        match = re.match(r"(?:uq\.)?([\w.]+)(?:\(.*\))?$", literal.astext())
        inside = isinstance(
            literal.parent, nodes.title | nodes.reference | pending_xref
        )
        if match and match[1] in targets and not inside:
            link = pending_xref(
                refdomain="py",
                reftype="obj",
                reftarget=f"keras_uq_layers.{match[1]}",
                refexplicit=True,
                refwarn=True,
                refdoc=app.env.docname,
            )
            literal.replace_self(link)
            link += literal


def signature_of_init(app, what, name, obj, options, signature, annotation):
    """Keras gives its layers a `__new__` that takes anything."""
    if what == "class" and signature == "(*args, **kwargs)":
        parameters = list(inspect.signature(obj.__init__).parameters.values())[1:]
        # Without annotations: the docstrings say the types.
        plain = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
        signature = str(inspect.Signature(plain))
    return signature, annotation


def copy_notebooks(app, config):
    """Sphinx reads documents below its own folder only."""
    shutil.rmtree(HERE / "notebooks", ignore_errors=True)
    shutil.copytree(
        HERE.parent / "notebooks",
        HERE / "notebooks",
        ignore=shutil.ignore_patterns(".ipynb_checkpoints"),
    )


def notebooks_are_inside(app, docname, source):
    """A page's link to `../notebooks`, right in the repository, leads to the copy."""
    source[0] = source[0].replace("](../notebooks/", "](notebooks/")


def fences_to_rest(app, what, name, obj, options, lines):
    """Turns the code fences of a docstring into literal blocks."""
    out, inside = [], False
    for line in lines:
        fence = re.match(r"(\s*)```(\w*)$", line)
        if fence and not inside:
            inside = True
            language = fence[2] or "text"
            out += ["", f"{fence[1]}.. code-block:: {language}", ""]
        elif fence:
            inside = False
            out.append("")
        else:
            out.append(f"   {line}" if inside else line)
    lines[:] = out


def setup(app):
    # Before Sphinx looks for documents.
    app.connect("config-inited", write_api_pages)
    app.connect("config-inited", copy_notebooks)
    app.connect("source-read", notebooks_are_inside)
    app.connect("autodoc-process-signature", signature_of_init)
    app.connect("doctree-read", link_names)
    # Before napoleon, which would read a formula with a colon as a section.
    app.connect("autodoc-process-docstring", fences_to_rest, priority=1)
