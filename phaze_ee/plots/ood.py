"""How well exits detect out-of-distribution (OOD) jets."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phaze_ee.names import exit_title, ood_score_title
from phaze_ee.plots.style import PALETTE, hep_style, legend_below, simulation_label
from phaze_ee.results.ood import OODDetection, OODResults

_POLICY = "by the policy"
_MARKERS = ("o", "s", "^", "D", "v", "P")


@hep_style()
def ood_auroc_figure(results: OODResults) -> Figure:
    """Draw the AUROC of each score at each exit and, if there is a policy, by the policy."""
    places = {exit_title(name): scores for name, scores in results.exits.items()}
    if results.policy is not None and results.policy.scores:
        places[_POLICY] = results.policy.scores
    names = list(dict.fromkeys(name for scores in places.values() for name in scores))
    figure = Figure(figsize=(max(8, 2.5 + 1.6 * len(places)), 6.5))
    axes = figure.add_subplot()
    for index, name in enumerate(names):
        _draw_score(axes, places, name, index, 0.07 * (index - (len(names) - 1) / 2))
    axes.axhline(0.5, color="0.6", linewidth=1, linestyle="--")
    axes.set_xticks(range(len(places)), list(places))
    axes.tick_params(axis="x", which="minor", length=0)
    axes.set_xlim(-0.4, len(places) - 0.6)
    axes.set_ylabel("AUROC of OOD jets")
    legend_below(figure, axes, columns=4)
    simulation_label(axes, _sizes(results))
    return figure


def _draw_score(axes: Axes, places: Mapping[str, dict[str, OODDetection]], name: str, index: int, shift: float) -> None:
    """Draw one score; a line joins the exits, but not the policy."""
    known = [(place + shift, scores[name]) for place, scores in enumerate(places.values()) if name in scores]
    positions, areas = [position for position, _ in known], [found.auroc for _, found in known]
    colour = PALETTE[index % len(PALETTE)]
    axes.errorbar(
        positions,
        areas,
        [found.auroc_error for _, found in known],
        fmt=_MARKERS[index % len(_MARKERS)],
        color=colour,
        label=ood_score_title(name),
    )
    joined = len(known) - (name in places.get(_POLICY, {}))
    axes.plot(positions[:joined], areas[:joined], color=colour, linewidth=1.2)


@hep_style()
def ood_scores_figure(results: OODResults) -> Figure:
    """Draw histograms of both samples, one row per score, one column per exit; the project's mean is at 0."""
    names = list(dict.fromkeys(name for scores in results.exits.values() for name in scores))
    exits = list(results.exits)
    figure = Figure(figsize=(1.5 + 3.6 * len(exits), 1.5 + 2.9 * len(names)))
    panels = figure.subplots(len(names), len(exits), squeeze=False)
    for row, name in enumerate(names):
        for axes, exit_ in zip(panels[row], exits, strict=True):
            if name in results.exits[exit_]:
                _draw_histograms(axes, results.exits[exit_][name])
                axes.set_xlabel(f"{ood_score_title(name)}, {exit_title(exit_)}")
            else:
                axes.axis("off")
        drawn = next(axes for axes in panels[row] if axes.axison)
        drawn.set_ylabel("Share per bin")
    legend_below(figure, panels[0, 0], columns=2)
    simulation_label(panels[0, 0], _sizes(results), panels[0, -1])
    return figure


def _draw_histograms(axes: Axes, found: OODDetection) -> None:
    own, ood = ([count / sum(counts) for count in counts] for counts in (found.counts, found.ood_counts))
    axes.stairs(own, found.edges, label="jets of the project", fill=True, color="0.8")
    axes.stairs(ood, found.edges, label="OOD jets", color=PALETTE[2], linewidth=1.6)
    axes.set_ylim(0, 1.2 * max(*own, *ood))  # room for the text
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    text = f"AUROC {found.auroc:.3f}"
    axes.text(0.96, 0.94, text, transform=axes.transAxes, ha="right", va="top", fontsize="x-small", bbox=box)


def _sizes(results: OODResults) -> str:
    return f"{results.jets:,} jets, {results.ood_jets:,} OOD"
