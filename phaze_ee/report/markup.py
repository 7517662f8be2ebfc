"""HTML of small parts. All texts are escaped here: names of classes, files and projects are other people's words."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt

INK = "var(--ink)"  # the colour of the text: black, or white on a dark page
_LEAST_WRITTEN = 0.08  # the share of a part that has room for its number
_ON_INK = ";color:var(--paper);text-shadow:none"

Row = Sequence[object]


def side(drop: float) -> str:
    """Return on which side of the full model's an accuracy lies that is lower by ``drop``."""
    return "above" if drop < 0 else "below"


def percent(share: float) -> str:
    """Return a share in percent with one decimal."""
    return f"{100 * share:.1f} %"


def paragraph(text: object, kind: str = "") -> str:
    """Return a paragraph of plain text."""
    return f"<p{_attribute('class', kind)}>{_text(text)}</p>"


def section(name: str, title: str, *parts: str) -> str:
    """Return a section with a heading; ``name`` is its id."""
    return f'<section id="{escape(name)}"><h3>{escape(title)}</h3>{"".join(parts)}</section>'


def chapter(name: str, title: str, *parts: str) -> str:
    """Return a chapter with a heading; ``name`` is its id."""
    return f'<section class="chapter" id="{escape(name)}"><h2>{escape(title)}</h2>{"".join(parts)}</section>'


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return a table; the first column is left-aligned, the others are right-aligned."""
    return _table(head, [[(_text(cell), "") for cell in row] for row in rows])


def shares_table(head: Row, rows: Iterable[tuple[str, Sequence[float]]]) -> str:
    """Return a table of shares from 0 to 1 in percent; the larger a share, the stronger its colour."""
    return _table(head, [[(escape(title), ""), *map(_shaded, shares)] for title, shares in rows])


def tiles(parts: Iterable[tuple[str, str]]) -> str:
    """Return large figures, each with what it is."""
    drawn = (f"<div><b>{_text(figure)}</b><span>{_text(meaning)}</span></div>" for figure, meaning in parts)
    return f'<div class="tiles">{"".join(drawn)}</div>'


def bars(rows: Sequence[tuple[str, Sequence[tuple[str, str, float]]]]) -> str:
    """Return stacked bars: for each row a title, and the name, the colour and the share of each part; with a legend."""
    drawn = "".join(f'<div class="row"><span>{escape(title)}</span>{_bar(parts)}</div>' for title, parts in rows)
    colours = dict.fromkeys((name, colour) for _, parts in rows for name, colour, _ in parts)
    names = (f'<span><b style="--c:{colour}"></b>{escape(name)}</span>' for name, colour in colours)
    return f'{drawn}<div class="legend">{"".join(names)}</div>'


def grid(parts: Iterable[str]) -> str:
    """Return parts in columns, as many as fit."""
    return f'<div class="grid">{"".join(parts)}</div>'


def items(texts: Iterable[object]) -> str:
    """Return a list of plain texts."""
    return f"<ul>{''.join(f'<li>{escape(str(text))}</li>' for text in texts)}</ul>"


def folded(title: str, text: str) -> str:
    """Return a text as it is, which a click shows."""
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def missing(what: str, command: str) -> str:
    """Return that there is no such result, and the command that makes it."""
    return f'<p class="missing">{escape(what)} Run <code>{escape(command)}</code></p>'


def from_markdown(text: str) -> str:
    """Return Markdown as HTML, its headings as headings of sections. HTML, links and images in it stay text."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "image", "autolink"])
    tokens = reader.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = "h4"
    rendered: str = reader.renderer.render(tokens, reader.options, {})
    return f'<div class="card">{rendered}</div>'


def data_block(name: str, data: Any) -> str:
    """Return data for the script of the page. It is inert: nothing in it ends the block.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'


def _text(text: object) -> str:
    """Return plain text as HTML. A number keeps its error and its percent sign on one line."""
    return escape(str(text)).replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%")


def _table(head: Row, rows: Iterable[Sequence[tuple[str, str]]]) -> str:
    """Return a table of cells, which are HTML, with their style."""
    titles = "".join(f'<th scope="col">{escape(str(cell))}</th>' for cell in head)
    lines = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>'


def _cells(row: Sequence[tuple[str, str]]) -> str:
    (first, _), *others = row
    cells = "".join(f"<td{_attribute('style', style)}>{cell}</td>" for cell, style in others)
    return f'<th scope="row">{first}</th>{cells}'


def _shaded(share: float) -> tuple[str, str]:
    strength = round(60 * share)
    return percent(share), f"background:color-mix(in srgb,var(--accent) {strength}%,transparent)" if strength else ""


def _bar(parts: Sequence[tuple[str, str, float]]) -> str:
    return f'<div class="bar">{"".join(_part(*part) for part in parts)}</div>'


def _part(name: str, colour: str, share: float) -> str:
    style = f"width:{100 * share:.2f}%;--c:{colour}{_ON_INK if colour == INK else ''}"
    written = f"{100 * share:.0f} %" if share >= _LEAST_WRITTEN else ""
    return f'<i style="{style}" title="{escape(f"{name}: {percent(share)}")}">{written}</i>'


def _attribute(name: str, value: str) -> str:
    return f' {name}="{escape(value)}"' if value else ""
