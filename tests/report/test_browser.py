"""The report page in a real browser: no error, charts are drawn, the slider changes the numbers."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from phaze_ee.report.page import project_page
from tests.report.pages import EVIL, content, with_sequence

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-logging=stderr",
    "--dump-dom",
)  # fmt: skip
MOVE = """<script>
const slider = document.getElementById("slider");
slider.value = 0;
slider.dispatchEvent(new Event("input"));
document.getElementById("theme").click();
const svg = document.querySelector("figure svg"), box = svg.querySelector("circle").getBoundingClientRect();
svg.dispatchEvent(new PointerEvent("pointermove", { clientX: box.x + 2, clientY: box.y + 2 }));
</script></body>"""

pytestmark = pytest.mark.skipif(not BROWSER, reason="needs Chromium")


def opened(page: str, folder: Path) -> tuple[str, list[str]]:
    """Return the document after its script ran, and what the browser wrote to the console."""
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    command = [BROWSER, *OPTIONS, f"--user-data-dir={folder / 'profile'}", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def cell(document: str, number: int) -> str:
    found = re.search(rf'id="slider-{number}">([^<]*)<', document)
    assert found
    return found[1]


def test_charts_are_drawn_without_errors(tmp_path: Path) -> None:
    page = project_page(content(EVIL))
    document, console = opened(page, tmp_path)
    assert console == []
    assert document.count("<polyline") > 10
    assert document.count("<svg") == page.count('class="chart"')
    assert "NaN" not in document
    assert "This is the policy." in document
    assert document.count('class="mark"') == 3  # a line in two charts, a ring in one
    assert cell(document, 1).startswith("40.0 %")


def test_slider_switch_and_pointer_change_the_page(tmp_path: Path) -> None:
    page = re.sub(r"<meta http-equiv[^>]*>", "", project_page(content())).replace("</body>", MOVE)
    document, console = opened(page, tmp_path)
    assert console == []
    assert cell(document, 0) == "0.1, 0.1, 0.1"
    assert cell(document, 1).startswith("10.0 %")
    assert cell(document, 2).startswith("62.0")
    assert "they promise nothing" in document
    assert "confidence: MACs, share of the full model 10 %, Accuracy 62 % ± 0.4 %" in document
    assert re.search(r'<html[^>]*data-theme="(dark|light)"', document)


def test_slider_along_the_tested_sequence_of_a_window_changes_the_numbers(tmp_path: Path) -> None:
    page = re.sub(r"<meta http-equiv[^>]*>", "", project_page(with_sequence()))
    document, console = opened(page, tmp_path)
    assert console == []
    assert "This is the policy." in document
    rejections = document.partition('data-of="rejection-chart-data"')[2].partition("</figure>")[0]
    assert rejections.count('text-anchor="end"') >= 2  # numbers of an axis that is short for a logarithmic one
    assert cell(document, 3).startswith("1.40 ± 0.10 %")
    document, console = opened(page.replace("</body>", MOVE), tmp_path)
    assert console == []
    assert cell(document, 0) == "0.2, 0.2, 0.2"
    assert cell(document, 1).startswith("2.0 % for 99.9 % QCD")
    assert cell(document, 3) == "5.00 ± 0.10 % (calibration jets: at most 5.5 %)"
    assert document.count('class="mark"') == 4  # a line in three charts, a ring in one
    assert "comes after one that did not: it promises nothing" in document


def test_the_policy_of_the_page_stops_other_scripts(tmp_path: Path) -> None:
    document, console = opened(project_page(content()).replace("</body>", MOVE), tmp_path)
    assert len(console) == 1
    assert "Content Security Policy" in console[0]
    assert cell(document, 1).startswith("40.0 %")
