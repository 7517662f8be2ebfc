"""Runs a tagger on a whole data set and collects the answers of all exits."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from phaze_ee.engine.engine import Engine
from phaze_ee.errors import DataError
from phaze_ee.exits.answers import Answers, Predictions, check_finite
from phaze_ee.exits.costs import ExitCosts
from phaze_ee.exits.observables import input_observables
from phaze_ee.machine import Precision
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetBatch


def predict(
    tagger: Tagger,
    batches: Iterable[JetBatch],
    class_names: Sequence[str],
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    *,
    targets: Sequence[str] = (),
) -> Answers:
    """Return the answers of every exit for every jet, in input order.

    Args:
        tagger: the network. It is moved to ``device`` and stays there; each module keeps its training or evaluation
            mode.
        batches: jets as a loader yields them, with labels (-1 where unknown) and observers.
        class_names: the K classes, in the order of the logits.
        device: where the network runs.
        precision: as for :class:`phaze_ee.engine.engine.Engine`.
        targets: the names of the targets of a regression.

    Raises:
        DataError: there are no jets.
        RunError: a prediction of a target is not finite.
    """
    tagger.to(device)
    logits: list[npt.NDArray[np.float32]] = []
    labels: list[npt.NDArray[np.int64]] = []
    counts: list[npt.NDArray[np.int64]] = []
    observers: list[dict[str, npt.NDArray[np.generic]]] = []
    inputs: list[dict[str, npt.NDArray[np.generic]]] = []
    values: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
    with evaluation_mode(tagger):
        engine = Engine(tagger, threads=torch.get_num_threads(), precision=precision)
        for batch in batches:
            logits_ENK, value_ENR = engine.every_answer(batch.inputs.to(device, non_blocking=True))
            logits.append(logits_ENK.float().cpu().numpy())
            labels.append(batch.label_N.cpu().numpy())
            counts.append(batch.inputs.counts_NG.cpu().numpy())
            observers.append(batch.observers)
            inputs.append({name: value_N.cpu().numpy() for name, value_N in input_observables(batch.inputs).items()})
            if batch.target_NR is not None:
                values.append((value_ENR.float().cpu().numpy(), batch.target_NR.numpy()))
    if sum(map(len, labels)) == 0:
        raise DataError("the files hold no jet that passes the selection; check the files and 'selection' in the YAML")
    counts_NG = np.concatenate(counts)
    return Answers(
        logits_ENK=np.concatenate(logits, axis=1),
        label_N=np.concatenate(labels),
        particle_count_N=counts_NG.sum(axis=1),
        class_names=tuple(class_names),
        costs=ExitCosts.of(engine.tagger, counts_NG),
        observers=_joined(observers),
        inputs=_joined(inputs),
        predictions=_predictions(values, targets) if values and targets else None,
    )


def _joined(parts: Sequence[dict[str, npt.NDArray[np.generic]]]) -> dict[str, npt.NDArray[np.generic]]:
    return {name: np.concatenate([columns[name] for columns in parts]) for name in parts[0]}


def _predictions(
    values: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]], names: Sequence[str]
) -> Predictions:
    value_ENR = np.concatenate([value_ENR for value_ENR, _ in values], axis=1)
    check_finite(value_ENR)
    return Predictions(tuple(names), value_ENR, np.concatenate([target_NR for _, target_NR in values]))


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module and its submodules into evaluation mode; on exit each gets its own mode back."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, was_training in training.items():
            part.training = was_training
