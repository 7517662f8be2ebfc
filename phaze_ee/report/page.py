"""The report: one HTML file with everything in it, which loads nothing.

The charts are SVG, drawn by a short script of our own (page.js). Plotly's smallest bundle is 1 MB of code that nobody
here reads; the charts need lines, points, error bars, logarithmic axes and values at the pointer, and no more. The
content security policy lets the page run this one script and load nothing, whatever the names of classes and files are.
"""

import base64
import hashlib
import platform
from collections.abc import Iterable, Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files

from phaze_ee.names import quantity
from phaze_ee.report.chapters import (
    comparison_chapter,
    dataset_chapter,
    deployment_chapter,
    model_chapter,
)
from phaze_ee.report.content import Content
from phaze_ee.report.markup import chapter, paragraph, section
from phaze_ee.report.physics import physics_chapter
from phaze_ee.report.promise import promise_box, promise_chapter
from phaze_ee.report.seeds import promises_of_seeds, seeds_deployment, seeds_model, seeds_physics, seeds_promise
from phaze_ee.results.differences import ComparisonResults

_PROGRAMS = ("phaze-ee", "torch", "weaver-core", "lightning", "numpy")
_CHAPTERS = ("promise", "physics", "model", "deployment", "dataset")


def project_page(content: Content) -> str:
    """Return the page of one project."""
    chapters = (
        promise_chapter(content),
        physics_chapter(content),
        model_chapter(content),
        deployment_chapter(content),
        dataset_chapter(content, _versions()),
    )
    return _page(content.title, _CHAPTERS, (*_left_out(content), *chapters))


def seeds_page(content: Content) -> str:
    """Return the page of a project that was run with several seeds; ``over_seeds`` must be there."""
    results = content.over_seeds
    assert results is not None
    chapters = (
        seeds_promise(content, results),
        seeds_physics(content, results),
        seeds_model(content, results),
        seeds_deployment(content, results),
        dataset_chapter(content, _versions()),
    )
    count = quantity(len(content.seeds), "seed")
    return _page(f"{content.title}, {count}", _CHAPTERS, (*_left_out(content), *chapters))


def comparison_page(title: str, contents: Sequence[Content], differences: ComparisonResults | None = None) -> str:
    """Return the page that compares projects, all with results of the same classes.

    Args:
        title: of the page.
        contents: of the projects.
        differences: of their accuracies to that of the first project; None: they are not shown.
    """
    promises = [
        section(
            f"promise-{number}",
            content.title,
            _promise(content),
        )
        for number, content in enumerate(contents)
    ]
    projects = [content.results for content in contents if content.results is not None]
    left_out = dict.fromkeys(line for content in contents for line in _left_out(content))
    chapters = (chapter("promises", "Promises", *promises), comparison_chapter(projects, differences))
    return _page(title, ("promises", "comparison"), (*left_out, *chapters))


def _promise(content: Content) -> str:
    if content.seeds:
        return promises_of_seeds(content.seeds)
    if content.promise is None:
        return paragraph("No exit policy: nothing is promised.", "missing")
    return promise_box(content.promise)


def _versions() -> list[tuple[str, str]]:
    return [*((name, version(name)) for name in _PROGRAMS), ("Python", platform.python_version())]


def _left_out(content: Content) -> Iterable[str]:
    return [paragraph(line, "left-out") for line in content.left_out]


def _page(title: str, chapters: Sequence[str], parts: Iterable[str]) -> str:
    style, script = _own("page.css"), _own("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    links = "".join(f'<a href="#{name}">{name.capitalize()}</a>' for name in chapters)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><title>{escape(title)}</title><style>{style}</style></head>'
        f'<body><header><h1>{escape(title)}</h1><button type="button" id="theme">Light / dark</button></header>'
        f"<nav>{links}</nav><noscript><p>The charts need JavaScript; all tables are here without.</p></noscript>"
        f"<main>{''.join(parts)}</main><script>{script}</script></body></html>\n"
    )


def _own(name: str) -> str:
    return files("phaze_ee.report").joinpath(name).read_text(encoding="utf-8")
