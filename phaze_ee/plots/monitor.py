"""The figure of mode monitor: the share that is lost, as it was seen with more and more jets."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from phaze_ee.plots.style import PALETTE, data_label, hep_style, legend_below
from phaze_ee.results.watching import Look, Watched

_COLOURS = {"broken": PALETTE[2], "not known yet": PALETTE[4]}
_KEPT = PALETTE[0]
_MOST_NAMES = 20  # along the axis
_HEADROOM = 1.6
_SHARES = {True: "Selected jets that the exits reject", False: "Jets with another class"}


@hep_style()
def monitor_figure(watched: Watched) -> Figure:
    """Draw estimate and limits against the jets so far, the promise, and moves; or the values of a column as points."""
    figure = Figure(figsize=(9, 6.5))
    axes = figure.add_subplot()
    if watched.by is None:
        _draw_looks(axes, watched)
    else:
        _draw_values(axes, watched)
    axes.axhline(
        watched.epsilon, color="black", linestyle="--", linewidth=1.4, label=f"promised: ≤ {_percent(watched)}"
    )
    axes.set_ylabel(_SHARES[watched.selected])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(0, _top(watched))
    legend_below(figure, axes, columns=3)
    data_label(axes, watched.verdict)
    return figure


def _draw_looks(axes: Axes, watched: Watched) -> None:
    colour = _COLOURS.get(watched.verdict, _KEPT)
    for number, looks in enumerate(watched.parts):
        jets = [look.jets for look in looks]
        own = colour if number == len(watched.parts) - 1 else _COLOURS["not known yet"]
        ends = [look.low for look in looks], [look.high for look in looks]
        confidence = f"{100 * watched.confidence:g} % at all looks together"
        if len(looks) > 1:
            axes.fill_between(jets, *ends, color=own, alpha=0.25, linewidth=0, label=confidence)
        else:  # a band of no width
            axes.vlines(jets, *ends, color=own, alpha=0.25, linewidth=8, label=confidence)
        marker = "o" if len(looks) < _MOST_NAMES else ""
        axes.plot(jets, [look.share for look in looks], marker=marker, markersize=5, color=own, label="estimate")
    for number, (jets_then, step) in enumerate(watched.moves):
        axes.axvline(jets_then, color=PALETTE[6], linestyle=":", linewidth=1.6, label="move to a safer policy")
        axes.annotate(
            f" step {step}",
            (jets_then, 0.98 - 0.05 * (number % 3)),
            xycoords=axes.get_xaxis_transform(),
            va="top",
            fontsize="x-small",
            color=PALETTE[6],
        )
    axes.set_xlabel("Jets so far")
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.set_xlim(left=0)


def _draw_values(axes: Axes, watched: Watched) -> None:
    for verdict in dict.fromkeys(own for _, own in watched.values.values()):
        chosen = [(place, look) for place, (look, own) in enumerate(watched.values.values()) if own == verdict]
        share = [look.share for _, look in chosen]
        errors = [look.share - look.low for _, look in chosen], [look.high - look.share for _, look in chosen]
        axes.errorbar(
            [place for place, _ in chosen],
            share,
            errors,
            fmt="o",
            color=_COLOURS.get(verdict, _KEPT),
            capsize=3,
            label=verdict,
        )
    names = list(watched.values)
    axes.xaxis.set_major_locator(MaxNLocator(_MOST_NAMES, integer=True))
    axes.xaxis.set_major_formatter(lambda place, _: names[round(place)] if 0 <= round(place) < len(names) else "")
    axes.tick_params(axis="x", rotation=45 if max(map(len, names)) > 4 else 0)
    axes.minorticks_off()
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xlabel(str(watched.by))


def _percent(watched: Watched) -> str:
    return f"{100 * watched.epsilon:g} %"


def _top(watched: Watched) -> float:
    """Return the end of the axis: the promise and all estimates, and the limits of the last looks, are inside."""
    looks: list[Look] = [look for part in watched.parts for look in part] if watched.by is None else []
    last = [part[-1] for part in watched.parts] if watched.by is None else [look for look, _ in watched.values.values()]
    inside = [watched.epsilon, *(look.share for look in looks), *(look.high for look in last)]
    return min(1.0, _HEADROOM * max(inside)) if max(inside) < 1 else 1.05
