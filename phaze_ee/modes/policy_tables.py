"""An exit policy as tables for a terminal."""

from rich.table import Table

from phaze_ee.exits.policy_file import ExitPolicyFile, MixFigures
from phaze_ee.modes.tables import empty_table, in_percent, with_error
from phaze_ee.plots.titles import exit_title


def risk_table(file: ExitPolicyFile) -> Table:
    """Return the risks that were tested, and what they came to."""
    confidence = f"{1 - file.guarantee.delta:.4g}"
    columns = ["allowed", "lost", "of jets", "observed", f"limit at {confidence}"]
    table = empty_table(f"{file.project}: {file.target.name}, score {file.score.name}", columns, first="risk")
    for risk in file.guarantee.risks:
        values = (f"{value:.3g}" for value in (risk.epsilon, risk.rate, risk.upper_limit))
        allowed, rate, limit = values
        table.add_row(risk.name, allowed, f"{risk.lost:,}", f"{risk.jets:,}", rate, limit)
    return table


def policy_table(file: ExitPolicyFile) -> Table:
    """Return where jets leave and what it costs, for each mix of classes."""
    table = empty_table("Where jets leave", ["threshold", *(f"share, {_mix(name)}" for name in file.realised)])
    for index, name in enumerate(file.exit_names):
        threshold = f"{file.thresholds[index]:.4g}" if index < len(file.thresholds) else "the rest"
        shares = (f"{100 * figures.exit_shares[name]:.2f} %" for figures in file.realised.values())
        table.add_row(exit_title(name), threshold, *shares)
    table.add_section()
    table.add_row("cost of full", "", *(_share(figures) for figures in file.realised.values()))
    table.add_row("M MACs", "", *(f"{figures.macs / 1e6:.3g}" for figures in file.realised.values()))
    table.add_row("accuracy", "", *(_accuracy(figures) for figures in file.realised.values()))
    table.add_row("full model's", "", *(_full_accuracy(figures) for figures in file.realised.values()))
    return table


def _mix(name: str) -> str:
    return {"files": "files' mix", "prior": "class_prior"}[name]


def _share(figures: MixFigures) -> str:
    return in_percent(figures.cost_share, figures.cost_share_error)


def _accuracy(figures: MixFigures) -> str:
    if figures.accuracy is None or figures.accuracy_error is None:
        return "not read"
    return with_error(figures.accuracy, figures.accuracy_error)


def _full_accuracy(figures: MixFigures) -> str:
    return "not read" if figures.full_accuracy is None else f"{figures.full_accuracy:.4f}"
