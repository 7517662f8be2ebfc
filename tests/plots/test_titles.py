import warnings

import pytest
from matplotlib.figure import Figure

from phaze_ee.plots.audits import exit_histogram_figure, exit_rates_figure, mass_shapes_figure
from phaze_ee.plots.confusion import confusion_figure
from phaze_ee.plots.dynamic_tradeoff import DynamicProject, accuracy_figure, cost_series, rejection_figure
from phaze_ee.plots.roc import roc_figure
from phaze_ee.plots.style import hep_style
from phaze_ee.plots.titles import class_titles, letters_without_glyphs, width
from phaze_ee.results.policy import DynamicResults
from tests.plots.dynamic_examples import CLASSES, dynamic_results, timed_benchmark
from tests.plots.examples import evaluation_results

LONG = "Higgs boson to bottom quark pair, generator level"
ODD = (r"$t \ttbar$", f"{LONG} $H \\to b\\bar{{b}}$", "粒子")


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("label_Tbqq", "Tbqq"),
        (r"$H \to b\bar{b}$", r"$H \to b\bar{b}$"),
        (r"$t \ttbar$", r"\$t \ttbar\$"),
        ("5 $", r"5 \$"),
        ("$ $", r"\$ \$"),
        (LONG, "Higgs bo…r level"),
        (f"$t\\bar{{t}}$ {LONG}", r"$t\bar{t}$ Higgs …r level"),
        (f"{LONG} $\\foo$", r"Higgs bo… \$\foo\$"),
        ("粒子 β", "?? β"),
        ("two\nlines", "two lines"),
        ("", ""),
    ],
)
def test_titles_are_short_and_formulas_stay(name: str, title: str) -> None:
    assert class_titles([name]) == {name: title}


@pytest.mark.parametrize("name", ["W" * 40, f"$\\mathrm{{{'a' * 60}}}$", f"$x_{{{'1' * 30}}}$ and more", "M" * 16])
def test_no_title_is_wider_than_one_of_usual_letters(name: str) -> None:
    (title,) = class_titles([name]).values()
    assert 4 < width(title) < 1.2 * width("Higgs bo…r level")


def test_titles_that_become_alike_have_numbers() -> None:
    names = ["label_QCD", f"{LONG} one {LONG}", f"{LONG} two {LONG}"]
    assert list(class_titles(names).values()) == ["QCD", "Higgs bo…r level", "Higgs bo…r level (3)"]


def test_letters_that_no_font_has_are_named_once() -> None:
    assert letters_without_glyphs(["粒子 β", "Top 粒", "two\nlines"]) == ["粒", "子"]


def figures() -> dict[str, Figure]:
    text = dynamic_results().model_copy(update={"classes": list(ODD)}).model_dump_json()
    for name, odd in zip(CLASSES, ODD, strict=True):
        text = text.replace(f'"{name}"', '"' + odd.replace("\\", "\\\\") + '"')
    dynamic = DynamicResults.model_validate_json(text)
    assert dynamic.mass is not None
    project = DynamicProject(dynamic, timed_benchmark())
    evaluation = evaluation_results((0.5, 0.7), ODD)
    series = list(cost_series(project, "macs"))
    return {
        "confusion": confusion_figure(evaluation, list(evaluation.exits)),
        "roc": roc_figure(evaluation),
        "rejection": rejection_figure(project, "macs", series),
        "accuracy": accuracy_figure(project, "macs", series),
        "rates": exit_rates_figure(dynamic),
        "histogram": exit_histogram_figure(dynamic),
        "mass": mass_shapes_figure(dynamic.mass),
    }


def test_every_figure_is_drawn_with_names_of_any_kind_without_a_warning() -> None:
    with warnings.catch_warnings(), hep_style():
        warnings.simplefilter("error")
        for figure in figures().values():
            figure.draw_without_rendering()


def test_classes_whose_titles_are_alike_have_a_bar_each() -> None:
    names = (f"{LONG} one {LONG}", f"{LONG} two {LONG}")
    (axes,) = exit_histogram_figure(dynamic_results(names)).axes
    assert len({patch.get_y() for patch in axes.patches}) == 2  # type: ignore[attr-defined]


def test_long_names_leave_the_cells_of_a_confusion_matrix_their_size() -> None:
    sides = []
    for name in ("Top", LONG):
        axes = confusion_figure(evaluation_results((0.5,), ("QCD", name)), ["full_model"]).axes[0]
        sides.append(axes.get_window_extent().height)
    assert sides[1] > 0.9 * sides[0]
