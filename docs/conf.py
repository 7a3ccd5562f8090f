"""How Sphinx builds the site from the Markdown of this folder and of the project's root.

    make docs        # build/site/index.html

The pages are written to be read on GitHub, too: the table of contents in the margin is made from the lists of links in
index.md, anchors are GitHub's, and links lead to files as they lie in the repository.
"""

import re
from pathlib import Path
from typing import Any

project = "dropkit"
author = "the dropkit authors"
copyright = "the dropkit authors"  # Sphinx asks for this name
extensions = ["myst_nb"]
nb_execution_mode = "off"  # the notebook is shown as it was kept; a test executes it

# The source is the project's root, so that links between README.md and docs/ are those of the repository.
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**.md", "examples/*.ipynb"]
exclude_patterns = ["build", ".venv", ".git", "src", "tests", "runs", "studies"]
templates_path = ["_templates"]

myst_heading_anchors = 4
nitpicky = True
highlight_language = "text"

html_theme = "furo"
html_title = "dropkit"
html_additional_pages = {"index": "to-docs.html"}  # the root of the site leads to docs/index.html
html_copy_source = False
html_show_copyright = False

SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n)*)", re.MULTILINE)
PAGE = re.compile(r"^- \[(.+?)\]\(([\w./-]+?)\.(?:md|ipynb)\)", re.MULTILINE)


def contents(text: str, folder: str) -> str:
    """Return a hidden table of contents for each section of `text` whose list begins with links to pages."""
    trees = []
    for caption, section in SECTION.findall(text):
        pages = [(title, f"/{Path(folder, page).as_posix()}") for title, page in PAGE.findall(section)]
        if pages:
            lines = "\n".join(f"{title} <{page.replace('/docs/../', '/')}>" for title, page in pages)
            trees.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n")
    return "\n".join(trees)


def add_contents(_app: Any, page: str, source: list[str]) -> None:
    """Give the first page the table of contents of all pages."""
    if page == root_doc:
        source[0] += "\n" + contents(source[0], str(Path(page).parent))


def setup(app: Any) -> dict[str, Any]:
    """Tell Sphinx what is done here."""
    app.connect("source-read", add_contents)
    return {"parallel_read_safe": True}
