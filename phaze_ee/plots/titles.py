"""Names of classes in figures. Users choose them, so they may be long, or be TeX that matplotlib cannot read."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.mathtext import MathTextParser

from phaze_ee.names import brief, class_title
from phaze_ee.plots.style import FONTS

_LONGEST, _SHORTEST = 16, 4  # letters
_WIDEST = 8.5  # times the size of the font: room for 16 letters of usual width
_MEASURED = 100  # size of a font whose widths are hardly rounded
_FORMULA = re.compile(r"(?<!\\)\$(?:\\.|[^$\\])+\$")
_NO_GLYPH = "?"
_PRIVATE = 0xE000  # the first code point of private use


def class_titles(names: Sequence[str]) -> dict[str, str]:
    """Return the title of each class in a figure: at most 16 letters, fewer if they are wide, and no two alike.

    Formulas between dollar signs stay if matplotlib can read them, else their TeX is drawn as text. Letters that the
    fonts lack are question marks. A title that an earlier class has too gets the number of the class.
    """
    titles: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        title = _drawable(class_title(name))
        titles[name] = f"{title} ({number})" if title in titles.values() else title
    return titles


def letters_without_glyphs(names: Iterable[str]) -> list[str]:
    """Return the letters of some names that the fonts of figures lack, each once."""
    return [letter for letter in dict.fromkeys("".join(names)) if not letter.isspace() and not _has_glyph(letter)]


def width(title: str) -> float:
    """Return how wide a drawable title is, in units of the size of the font.

    Raises:
        ValueError: it has a formula that matplotlib cannot read.
    """
    font = FontProperties(family=FONTS[0], size=_MEASURED)
    return float(MathTextParser("path").parse(title, prop=font).width) / _MEASURED


def _drawable(title: str) -> str:
    text = "".join(letter if _has_glyph(letter) else _NO_GLYPH for letter in " ".join(title.split()))
    # A formula cut in two would be none, so while the text is cut it is one letter that no font and no name has.
    formulas = dict(enumerate(_FORMULA.findall(text), start=_PRIVATE))
    marked = text
    for place, formula in formulas.items():
        marked = marked.replace(formula, chr(place), 1)
    try:
        found = _narrowed(marked, formulas)
    except ValueError:
        found = None
    as_text = {ord("$"): r"\$"}
    return found or _narrowed(text, as_text) or brief(text, _SHORTEST).translate(as_text)


def _narrowed(text: str, meanings: Mapping[int, str]) -> str | None:
    """Return a text without its middle, as much as is too wide, with the meanings of its letters; None: still too wide.

    Raises:
        ValueError: matplotlib cannot read it.
    """
    drawn = (brief(text, most).translate(meanings) for most in range(_LONGEST, _SHORTEST, -1))
    return next((title for title in drawn if width(title) <= _WIDEST), None)


def _has_glyph(letter: str) -> bool:
    return ord(letter) in _glyphs()


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(code for font in FONTS for code in get_font(findfont(font)).get_charmap())
