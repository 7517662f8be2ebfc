"""The site of the documentation. Its build, which .ci/run starts, checks links and anchors and runs the tutorial."""

import re
from pathlib import Path
from runpy import run_path

import pytest

import phaze_ee

ROOT = Path(__file__).resolve().parents[1]
OFFLINE = run_path(str(ROOT / "docs" / "site" / "offline.py"))
REFERENCE = (ROOT / "docs" / "API.rst").read_text(encoding="utf-8")


def test_the_reference_has_every_public_name() -> None:
    names = re.findall(r"^\.\. auto\w+:: phaze_ee\.(\w+)$", REFERENCE, re.MULTILINE)
    assert sorted(names) == sorted(set(phaze_ee.__all__) - {"__version__"})


@pytest.mark.parametrize("part", ["ExitHead", "ExitLink", "ExitLoss", "ExitScore", "Backbone"])
def test_the_reference_has_every_base_class_of_own_parts(part: str) -> None:
    extending = (ROOT / "docs" / "EXTENDING.md").read_text(encoding="utf-8")
    place = re.search(rf"`(phaze_ee\.[\w.]+\.{part})`", extending)
    assert place is not None
    assert f".. autoclass:: {place[1]}\n" in REFERENCE


@pytest.mark.parametrize(
    "text",
    [
        '<script async src="https://cdn.example/x.js"></script>',
        "<img alt='' src='//cdn.example/x.png'>",
        '<link rel="stylesheet" href="http://cdn.example/x.css">',
        "@font-face { src: url(https://cdn.example/x.woff2) }",
        '@import "https://cdn.example/x.css";',
    ],
)
def test_what_loads_from_the_network_is_found(text: str) -> None:
    assert len(OFFLINE["loaded_addresses"](text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        '<a href="https://example.org">a link</a>',
        '<script src="../_static/x.js"></script>',
        '<link rel="stylesheet" href="_static/x.css">',
        '<link rel="canonical" href="https://example.org/x.html">',
        "url(data:image/svg+xml;charset=utf-8,<svg xmlns='http://www.w3.org/2000/svg'>)",
    ],
)
def test_links_and_files_of_the_site_are_not_loaded_from_the_network(text: str) -> None:
    assert OFFLINE["loaded_addresses"](text) == []


def test_a_page_that_loads_something_is_named(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.html").write_text('<img src="https://cdn.example/x.png">', encoding="utf-8")
    (tmp_path / "good.html").write_text("<p>text</p>", encoding="utf-8")
    assert list(OFFLINE["loaded_by"](tmp_path)) == ["docs/page.html loads https://cdn.example/x.png"]
