"""The table of mode train."""

from rich.table import Table

from phaze_ee.names import exit_title
from phaze_ee.results.training import TrainingHistory
from phaze_ee.tables.style import empty_table, few


def training_table(history: TrainingHistory, epoch: int) -> Table:
    """Return the accuracies of an epoch, counted from 0, on validation and training jets; at most 12 rows."""
    record = next(record for record in history.epochs if record.epoch == epoch)
    validated = record.val_accuracy or []
    table = empty_table(
        f"{history.project}: accuracy after epoch {epoch + 1} of {len(history.epochs)}, the best",
        ["validation jets", "training jets"],
    )
    for row in few(list(zip(history.exit_names, validated, record.train_accuracy, strict=True))):
        if row is None:
            table.add_row("…")
        else:
            name, *accuracies = row
            table.add_row(exit_title(name), *(f"{accuracy:.4f}" for accuracy in accuracies))
    return table
