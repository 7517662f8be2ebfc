"""The jets of modes calibrate and place: which files, which of their jets, and the answers of the tagger."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from phaze_ee.config.options import Options
from phaze_ee.data.batches import HeldOut
from phaze_ee.errors import DataError, UsageError
from phaze_ee.exits.answers import CalibrationJets, FloatArray
from phaze_ee.exits.promise import prior_weights
from phaze_ee.models.tagger import Tagger
from phaze_ee.modes.session import Session
from phaze_ee.types import JetBatch, Predictions


def calibration_batches(session: Session) -> tuple[list[Path], Iterable[JetBatch], list[str]]:
    """Return the calibration files, their jets, and notes for the user."""
    options, model, share = session.options, session.model, session.options.calibration_share
    held_out = not options.calibration_files
    if held_out and share == 0:
        raise UsageError("there are no calibration jets: set c.calibration_files, or calibration_share above 0")
    files = session.files("val_files" if held_out else "calibration_files")
    _refuse_overlap(files, "train_files", session.files("train_files"))
    _refuse_overlap(files, "test_files", session.files("test_files") if options.test_files else [])
    labelled = options.exit_target != "agreement"
    loader = session.evaluation_jets(model.schema, files, labelled=labelled)
    if not held_out:
        return files, loader, []
    notes = []
    if model.options is not None and model.options.get("calibration_share", 0) != share:
        notes.append(
            "the training used some of these jets to choose its best epoch (calibration_share was different), so the "
            "promise is slightly too optimistic; train again, or set c.calibration_files"
        )
    return files, HeldOut(loader, share, held_out=True), notes


def _refuse_overlap(files: Sequence[Path], other: str, theirs: Sequence[Path]) -> None:
    common = {path.resolve() for path in files} & {path.resolve() for path in theirs}
    if common:
        raise UsageError(
            f"{min(common)} is both a calibration file and one of {other}; calibration needs jets that nothing else "
            "uses: set c.calibration_files to other files"
        )


def origin(files: Sequence[Path], session: Session) -> str:
    """Return in words where the jets come from."""
    where = str(files[0]) if len(files) == 1 else f"{len(files)} files, {files[0]} …"
    return where if session.options.calibration_files else f"held out of the validation files ({where})"


def calibration_jets(tagger: Tagger, predictions: Predictions, options: Options) -> CalibrationJets:
    """Return the tagger's answers with their costs, weighted for ``c.class_prior``.

    Raises:
        DataError: an answer is not finite, or a class of the prior has no jets.
        UsageError: the prior names a class that is not there.
    """
    broken = int((~np.isfinite(predictions.logits_ENK)).any(axis=(0, 2)).sum())
    if broken:
        raise DataError(f"the network's answer is not finite for {broken} jets; train it again, or check these files")
    macs_EN, head_EN, full_N = _costs(tagger.fastest_form(), torch.from_numpy(predictions.particle_count_N))
    weight_N = (
        np.ones(len(predictions))
        if options.class_prior is None
        else prior_weights(predictions.label_N, predictions.class_names, options.class_prior)
    )
    unit = float((weight_N * full_N).mean())
    return CalibrationJets(
        logits_ENK=torch.from_numpy(predictions.logits_ENK).double(),
        label_N=predictions.label_N,
        cost_EN=macs_EN / unit,
        weight_N=weight_N,
        class_names=predictions.class_names,
        macs=unit,
        head_EN=head_EN / unit,
    )


def _costs(tagger: Tagger, count_N: Tensor) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the MACs up to each exit with all heads, those of each head, and those of the full model without any."""
    macs_EN = tagger.exit_macs(count_N).double().numpy()
    exits = range(len(tagger.exit_stages))
    without = [tagger.exit_macs(count_N, exits=[other for other in exits if other != exit_]) for exit_ in exits]
    head_EN = np.stack([macs_EN[exit_] - macs.double().numpy()[exit_] for exit_, macs in enumerate(without)])
    return macs_EN, head_EN, tagger.exit_macs(count_N, exits=())[-1].double().numpy()
