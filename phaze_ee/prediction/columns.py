"""The columns of a file of predictions."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from phaze_ee.engine.run import EngineResult
from phaze_ee.errors import UsageError
from phaze_ee.names import exit_names
from phaze_ee.prediction.writers import Columns
from phaze_ee.shapes import Int
from phaze_ee.types import JetBatch


def prediction_columns(
    row_N: Int[np.ndarray, " N"],
    batch: JetBatch,
    result: EngineResult,
    class_names: Sequence[str],
    *,
    labelled: bool,
    exit_scores: bool,
) -> Columns:
    """Return the columns to write for some jets, in their order.

    ``entry`` is the row in the file of jets, ``score_<class>`` the probability of the class at the exit where the jet
    left, ``<class>`` whether the jet is of that class (with labels only; all are false for a jet of no class). Then
    come the observers, ``exit_index`` (the full model is the last), ``exit_macs`` and, with ``exit_scores``,
    ``<exit>_score_<class>``: NaN at exits that the jet did not reach.

    Args:
        row_N: the row of each jet in its file.
        batch: the jets.
        result: the engine's answers for them.
        class_names: the K classes in the order of the logits.
        labelled: write the classes of the jets.
        exit_scores: write the probabilities at all exits.
    """
    columns: dict[str, npt.NDArray[np.generic]] = {"entry": row_N}
    columns |= _scores("score", result.logits_NK, class_names)
    if labelled:
        columns |= {_plain(name): (batch.label_N == index).numpy() for index, name in enumerate(class_names)}
    columns |= batch.observers
    columns |= {"exit_index": result.exit_index_N.numpy().astype(np.int32), "exit_macs": result.macs_N.numpy()}
    if exit_scores:
        for index, name in enumerate(exit_names(result.visited_NEK.shape[1])):
            columns |= _scores(f"{name}_score", result.visited_NEK[:, index], class_names)
    return columns


def check_observers(observers: Sequence[str], class_names: Sequence[str]) -> None:
    """Refuse observers that have the name of a column of predictions.

    Raises:
        UsageError: an observer has such a name.
    """
    own = {"entry", "exit_index", "exit_macs", *map(_plain, class_names), *(f"score_{_plain(n)}" for n in class_names)}
    clash = [name for name in observers if name in own]
    if clash:
        raise UsageError(
            f"observer {clash[0]} has the name of a column that predict writes; leave it out with --observers"
        )


def _scores(prefix: str, logits_NK: torch.Tensor, class_names: Sequence[str]) -> dict[str, npt.NDArray[np.generic]]:
    score_NK = logits_NK.softmax(dim=-1).float().numpy()
    return {f"{prefix}_{_plain(name)}": score_NK[:, index] for index, name in enumerate(class_names)}


def _plain(name: str) -> str:
    """Return a label, which may be an expression, as a column name."""
    return re.sub(r"\W+", "_", name)
