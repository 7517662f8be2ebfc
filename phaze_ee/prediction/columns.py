"""The columns of a file of predictions."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from phaze_ee.errors import UsageError
from phaze_ee.names import class_title, exit_names
from phaze_ee.prediction.writers import Columns
from phaze_ee.shapes import Bool, Float, Int

if TYPE_CHECKING:
    import torch

    from phaze_ee.engine.audit import Audited
    from phaze_ee.engine.run import EngineResult
    from phaze_ee.exits.policies import ThresholdPolicy
    from phaze_ee.runtime.cascade import Cascade
    from phaze_ee.types import JetBatch

_WORDS = {
    "==": "eq",
    "!=": "ne",
    ">=": "ge",
    "<=": "le",
    ">>": "rshift",
    "<<": "lshift",
    "**": "pow",
    "//": "floordiv",
    ">": "gt",
    "<": "lt",
    "&": "and",
    "|": "or",
    "^": "xor",
    "~": "not",
    "+": "plus",
    "-": "minus",
    "*": "times",
    "/": "over",
    "%": "mod",
}
_OPERATORS = re.compile("|".join(map(re.escape, _WORDS)))
_EXIT_SCORE = re.compile(r"(exit_\d+|full_model)_(score_.*)")


def prediction_columns(
    row_N: Int[np.ndarray, " N"],
    batch: "JetBatch",
    result: "EngineResult",
    class_names: Sequence[str],
    *,
    labelled: bool,
    exit_scores: bool,
    cascade: "Cascade | None" = None,
    targets: Sequence[str] = (),
    safer: "Mapping[int, ThresholdPolicy] | None" = None,
) -> Columns:
    """Return the columns to write for some jets, in their order.

    ``entry`` is the row in the file of jets, ``score_<class>`` the probability of the class at the exit where the jet
    left, ``<class>`` whether the jet is of that class (with labels only; all are false for a jet of no class). Where
    background is rejected early, ``cascade_score_<signal>`` is as :class:`phaze_ee.runtime.cascade.Cascade` says. Then
    come the observers, ``exit_index`` (the full model is the last) and ``exit_macs``. ``predicted_<target>`` is what
    the exit where the jet left predicts for a target, in the target's own units. With ``exit_scores``,
    ``<exit>_score_<class>`` follow: NaN at exits that the jet did not reach. With an audit, ``audit_score_<class>`` is
    that of the full model and ``audit_weight`` its weight, as :class:`phaze_ee.engine.audit.Audited` says;
    ``audit_lost_<step>`` whether a safer policy would give the jet another class than the full model does, False
    without a weight. ``<class>`` and ``<target>`` are as :func:`column_stems` says.

    Args:
        row_N: the row of each jet in its file.
        batch: the jets.
        result: the engine's answers for them.
        class_names: the K classes in the order of the logits.
        labelled: write the classes of the jets.
        exit_scores: write the probabilities at all exits.
        cascade: how rejected jets are scored; None: the policy does not only reject.
        targets: the R targets, in the order of the values.
        safer: safer policies by their steps, whose losses are written with an audit; None: none are.
    """
    columns = answer_columns(
        row_N,
        _probabilities(result.logits_NK),
        class_names,
        label_N=batch.label_N.numpy() if labelled else None,
        observers=batch.observers,
        exit_index_N=result.exit_index_N.numpy(),
        macs_N=result.macs_N.numpy(),
        cascade=cascade,
        refused_N=result.refused_N.numpy(),
    )
    for index, name in enumerate(target_columns(targets)):
        columns[name] = result.value_NR[:, index].float().numpy()
    if result.audit is not None:
        columns |= _scores("audit_score", _probabilities(result.audit.logits_NK), column_stems(class_names).values())
        columns["audit_weight"] = result.audit.weight_N.numpy()
        columns |= {lost_column(step): _lost(policy, result.audit) for step, policy in (safer or {}).items()}
    if exit_scores:
        for index, name in enumerate(exit_names(result.visited_NEK.shape[1])):
            score_NK = _probabilities(result.visited_NEK[:, index])
            columns |= _scores(f"{name}_score", score_NK, column_stems(class_names).values())
    return columns


def lost_column(step: int) -> str:
    """Return the name of the column that says which jets the policy after a number of steps would lose."""
    return f"audit_lost_{step}"


def _lost(policy: "ThresholdPolicy", audited: "Audited") -> Bool[np.ndarray, " N"]:
    """Return which jets a policy would give another class than the full model, of those that were seen."""
    import torch

    from phaze_ee.exits.policies import exit_index

    seen_M = audited.weight_N.nonzero()[:, 0]
    logits_EMK = audited.every_NEK[seen_M].transpose(0, 1)
    own_MK = logits_EMK[exit_index(policy, logits_EMK), torch.arange(len(seen_M))]
    lost_N = torch.zeros(len(audited.weight_N), dtype=torch.bool)
    lost_N[seen_M] = own_MK.argmax(dim=1) != logits_EMK[-1].argmax(dim=1)
    array_N: npt.NDArray[np.bool_] = lost_N.numpy()
    return array_N


def answer_columns(
    row_N: Int[np.ndarray, " N"],
    score_NK: Float[np.ndarray, "N K"],
    class_names: Sequence[str],
    *,
    label_N: Int[np.ndarray, " N"] | None,
    observers: Columns,
    exit_index_N: Int[np.ndarray, " N"],
    macs_N: Int[np.ndarray, " N"] | None,
    cascade: "Cascade | None",
    refused_N: Bool[np.ndarray, " N"] | None = None,
) -> dict[str, npt.NDArray[np.generic]]:
    """Return the columns of :func:`prediction_columns` without those of single exits.

    Args:
        row_N: the row of each jet in its file.
        score_NK: the probabilities at the exit where each jet left.
        class_names: the K classes.
        label_N: the class of each jet, -1 for none; None: the file has no labels.
        observers: the columns to copy.
        exit_index_N: the exit where each jet left.
        macs_N: the cost of each jet; None: it is not known, and there is no such column.
        cascade: how rejected jets are scored; None: there is no such column.
        refused_N: the jets that left because a budget ran out; None: there are none.
    """
    columns: dict[str, npt.NDArray[np.generic]] = {"entry": row_N}
    stems = list(column_stems(class_names).values())
    columns |= _scores("score", score_NK, stems)
    if cascade is not None:
        columns[f"cascade_score_{stems[cascade.signal]}"] = cascade.scores(score_NK, exit_index_N, refused_N)
    if label_N is not None:
        columns |= {stem: label_N == index for index, stem in enumerate(stems)}
    columns |= observers
    columns["exit_index"] = exit_index_N.astype(np.int32)
    return columns if macs_N is None else columns | {"exit_macs": macs_N}


def target_columns(targets: Sequence[str]) -> list[str]:
    """Return the column of each target: ``predicted_<target>``, where the name ends as :func:`column_stems` says."""
    return [f"predicted_{stem}" for stem in column_stems(targets).values()]


def column_stems(class_names: Sequence[str]) -> dict[str, str]:
    """Return how the columns of each class end: ``score_<stem>`` and so on. All stems differ.

    A stem is the name of the class, with ``_`` for everything that is no letter, digit or ``_``. Where two classes
    would have the same, operators are spelled out (``a == 1`` is ``a_eq_1``); where that does not help, numbers follow,
    in the order of the classes.
    """
    plain = {name: _plain(name) for name in class_names}
    counts = Counter(plain.values())
    stems = {name: stem for name, stem in plain.items() if counts[stem] == 1}
    for name in class_names:
        if name not in stems:
            spelled = _plain(_OPERATORS.sub(_spelled, name)).strip("_") or "class"
            choices = chain([spelled], (f"{spelled}_{number}" for number in count(2)))
            stems[name] = next(choice for choice in choices if choice not in stems.values())
    return {name: stems[name] for name in class_names}


def renamed_classes(class_names: Sequence[str]) -> list[str]:
    """Return in words how the columns of classes end that would share a name; nothing if none would."""
    stems = column_stems(class_names)
    return [f"the columns of class {name!r} end with {stem}" for name, stem in stems.items() if stem != _plain(name)]


def check_classes(class_names: Sequence[str], targets: Sequence[str] = ()) -> None:
    """Refuse classes that would share a column with something else, or a title in tables and figures.

    Raises:
        UsageError: with both names.
    """
    titles: dict[str, str] = {}
    for name in class_names:
        other = titles.setdefault(class_title(name), name)
        if other != name:
            raise UsageError(
                f"classes {other} and {name} would both be called {class_title(name)} in tables; rename one by "
                "labels.names in the data config"
            )
    own = _own_columns(class_names, targets, labelled=False)
    for name, stem in column_stems(class_names).items():
        if (meaning := _meaning(stem, own)) is not None:
            raise UsageError(
                f"class {name} and {meaning} would share the column {stem} of predictions; rename the class by "
                "labels.names in the data config"
            )


def check_observers(observers: Sequence[str], class_names: Sequence[str], targets: Sequence[str] = ()) -> None:
    """Refuse observers that have the name of a column of predictions.

    Raises:
        UsageError: an observer has such a name.
    """
    own = _own_columns(class_names, targets, labelled=True)
    for name in observers:
        if (meaning := _meaning(name, own)) is not None:
            raise UsageError(
                f"observer {name} has the name of a column that predict writes, {meaning}; rename it by a new variable "
                "of the data config, or leave it out with --observers"
            )


def _own_columns(class_names: Sequence[str], targets: Sequence[str], *, labelled: bool) -> dict[str, str]:
    """Return the columns that predict writes, and what they hold; without those of single exits."""
    stems = column_stems(class_names)
    own = {
        "entry": "the row in the file",
        "exit_index": "the exit",
        "exit_macs": "the cost",
        "audit_weight": "the weight of the audit",
    }
    own |= {f"score_{stem}": f"the score of class {name}" for name, stem in stems.items()}
    own |= {f"cascade_score_{stem}": f"the score of class {name} in a cascade" for name, stem in stems.items()}
    own |= {f"audit_score_{stem}": f"the full model's score of class {name}" for name, stem in stems.items()}
    own |= {column: f"the prediction for {name}" for name, column in zip(targets, target_columns(targets), strict=True)}
    return own | ({stem: f"whether a jet is of class {name}" for name, stem in stems.items()} if labelled else {})


def _meaning(column: str, own: Mapping[str, str]) -> str | None:
    """Return what a column of predict holds; None if it writes no such column."""
    at_exit = _EXIT_SCORE.fullmatch(column)
    if at_exit is not None and at_exit[2] in own:
        return f"{own[at_exit[2]]} at {at_exit[1]}"
    return own.get(column)


def _probabilities(logits_NK: "torch.Tensor") -> Float[np.ndarray, "N K"]:
    score_NK: Float[np.ndarray, "N K"] = logits_NK.softmax(dim=-1).float().numpy()
    return score_NK


def _scores(
    prefix: str, score_NK: Float[np.ndarray, "N K"], stems: Iterable[str]
) -> dict[str, npt.NDArray[np.generic]]:
    return {f"{prefix}_{stem}": score_NK[:, index] for index, stem in enumerate(stems)}


def _plain(name: str) -> str:
    """Return a label, which may be an expression, as a column name."""
    return re.sub(r"\W+", "_", name)


def _spelled(operator: re.Match[str]) -> str:
    return f" {_WORDS[operator[0]]} "
