"""The site of the documentation: README, docs/ and docstrings as pages that load nothing from the network.

``sphinx-build -W -c docs/site . build/site`` builds it, without network as well. Sphinx with furo rather than MkDocs
Material: it takes README as it is, its search works in files on disk, and arguments read as lists, not as wide tables.
"""

import shutil
import sys
from pathlib import Path

from nbclient import NotebookClient
from sphinx.application import Sphinx
from sphinx.util import logging

import phaze_ee

sys.path.append(str(Path(__file__).parent))
from offline import loaded_by

project = "PHAZE-EE"
author = "PHAZE-EE contributors"
release = phaze_ee.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
# The source is the whole repository, so that relative links are the same here and on the code host.
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**"]
exclude_patterns = ["docs/site", ".*", "build", "phaze_ee", "shared", "tests"]

html_theme = "furo"
html_title = "PHAZE-EE"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False

myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_show_tb = True  # of a cell that fails, which is a warning
NotebookClient.coalesce_streams = True  # what a command prints is one text; MyST-NB's own merging breaks lines

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"


def setup(app: Sphinx) -> None:
    """Add the navigation, the address of a front page, and the check that pages load nothing."""
    app.connect("source-read", _add_navigation)
    app.connect("build-finished", _finish)


def _add_navigation(app: Sphinx, page: str, text: list[str]) -> None:
    if page != root_doc:
        return
    root = Path(app.srcdir)
    study = sorted(path for pattern in ("STUDY*.md", "study/*.md") for path in (root / "docs").glob(pattern))
    pages = "\n".join(str(path.relative_to(root).with_suffix("")) for path in study)
    text[0] += "\n" + Path(__file__).with_name("navigation.md").read_text(encoding="utf-8").replace(
        "STUDY\n", f"{pages}\n"
    )


def _finish(app: Sphinx, failure: Exception | None) -> None:
    folder = Path(app.outdir)
    if failure is not None or app.builder.format != "html":
        return
    shutil.copyfile(folder / f"{root_doc}.html", folder / "index.html")
    for loaded in loaded_by(folder):
        logging.getLogger(__name__).warning("%s from the network, but a page may load nothing", loaded)
