"""Predictions for one file of jets, in constant memory."""

import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from phaze_ee.data.loaders import EVALUATION_ROWS
from phaze_ee.data.row_spans import ahead, spans_of
from phaze_ee.data.rows import RowReader, SpanJets
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import Span
from phaze_ee.engine.audit import Audit, AuditReport, draws
from phaze_ee.engine.engine import Engine
from phaze_ee.engine.event_budget import BudgetReport, EventBudget
from phaze_ee.engine.run import EngineResult
from phaze_ee.exits.drift import DriftReference
from phaze_ee.exits.observables import input_observables
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.machine import Precision
from phaze_ee.models.tagger import Tagger
from phaze_ee.prediction.columns import prediction_columns
from phaze_ee.prediction.events import Events, WholeEvents
from phaze_ee.prediction.output_file import check_answers, write_predictions
from phaze_ee.prediction.outputs import FileJob
from phaze_ee.prediction.writers import Columns, Manifest, Recipe
from phaze_ee.registry import plugin_files
from phaze_ee.types import JetBatch
from phaze_ee.user_files import import_plugin

EventNumbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PredictionTask:
    """What is the same for all files.

    Attributes:
        tagger: the tagger, in evaluation mode, on the CPU.
        policy: decides where jets leave; None: every jet gets the full model.
        schema: the data configuration, with the observers to write.
        recipe: what predictions depend on, to tell outputs apart.
        reference: the distributions to compare with; None: the files are not monitored.
        events: tells which jets share ``event_budget``; None: there is no budget.
        event_budget: what the jets of an event may cost together.
        audit: with which probability jets that leave early go on to the full model; None: none does.
        audit_seed: decides which jets do.
        safer: safer policies by their steps, whose losses are written with an audit; None: none are.
        rows: rows of a file that are processed at a time. The costs of jets may depend on it, the answers do not.
        threads: the threads of the engine.
        device: the device that the network runs on.
        precision: of its products.
    """

    tagger: Tagger
    policy: ThresholdPolicy | None
    schema: DataSchema
    recipe: Recipe
    reference: DriftReference | None = None
    events: Events | None = None
    event_budget: EventBudget | None = None
    audit: Audit | None = None
    audit_seed: int = 0
    safer: Mapping[int, ThresholdPolicy] | None = None
    rows: int = EVALUATION_ROWS
    threads: int = 1
    device: str = "cpu"
    precision: Precision = "float32"

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process imports the plug-ins before it unpickles objects of their classes.
        values = [getattr(self, item.name) for item in fields(self)]
        return _task_of, (plugin_files(), pickle.dumps(values))


def _task_of(plugins: list[str], pickled: bytes) -> PredictionTask:
    for plugin in plugins:
        import_plugin(Path(plugin))
    return PredictionTask(*pickle.loads(pickled))


def predict_file(task: PredictionTask, job: FileJob, advance: Callable[[int], None] = lambda rows: None) -> Manifest:
    """Write the answers of an engine as :func:`write_predictions` does.

    While the engine works on some jets, a thread reads the next.
    """
    return write_predictions(_FileRun(task, job), job, advance)


class _FileRun:
    """Runs the engine on one file, and counts exits, costs and events."""

    def __init__(self, task: PredictionTask, job: FileJob) -> None:
        self.task, self.source, self.size = task, job.source, job.input_file.size
        source = job.source
        self.spans = spans_of(source, task.schema.weaver.treename, task.rows, as_packed=True) or [Span(source, 0, 0)]
        self.reader = RowReader.of_file(task.schema, source)
        self.engine = Engine(
            task.tagger.to(task.device),
            task.policy,
            threads=task.threads,
            event_budget=task.event_budget,
            audit=task.audit,
            precision=task.precision,
        )
        self.budget: BudgetReport | None = None
        self.events: WholeEvents | None = None
        self.audit: AuditReport | None = None
        self.exits_E = np.zeros(len(task.tagger.exit_names), dtype=np.int64)
        self.macs = self.full_macs = self.unclassified = self.empty = 0
        self.drift: DriftReference | None = None
        self.bad: Counter[str] = Counter()

    def parts(self, advance: Callable[[int], None]) -> Iterator[tuple[SpanJets, EventNumbers | None]]:
        """Yield the jets of the file in parts, with their events if there is an event budget."""
        if self.task.events is None:
            return ((rows, None) for rows in self._rows(advance))
        self.events = WholeEvents(self._rows(advance), self.task.events, self.source)
        return iter(self.events)

    def _rows(self, advance: Callable[[int], None]) -> Iterator[SpanJets]:
        for span, rows in zip(self.spans, ahead(map(self.reader.read, self.spans)), strict=True):
            self.bad.update(rows.bad)
            yield rows
            advance(span.stop - span.start)

    def columns(self, part: tuple[SpanJets, EventNumbers | None]) -> Columns:
        return self.answer(*part)

    def answer(self, rows: SpanJets, event_N: EventNumbers | None) -> Columns:
        """Run the engine on some jets; return the columns to write."""
        batch = rows.jets.batch()
        jets = batch.inputs.ragged().to(self.task.device)
        events = None if event_N is None else torch.from_numpy(event_N)
        result = self.engine(jets, events, draw_N=self._draws(rows.row_N)).cpu()
        finite_N = result.logits_NK.isfinite().all(dim=1) & result.value_NR.isfinite().all(dim=1)
        check_answers(finite_N.numpy(), rows.row_N, self.source)
        self._count(batch, result)
        if events is not None and self.task.event_budget is not None:
            report = BudgetReport.of(events, result.macs_N, result.refused_N, self.task.event_budget)
            self.budget = report if self.budget is None else self.budget + report
        return prediction_columns(
            rows.row_N,
            batch,
            result,
            self.task.schema.class_names,
            labelled=self.reader.labelled,
            exit_scores=self.task.recipe.exit_scores,
            cascade=None if self.task.policy is None else self.task.policy.cascade,
            targets=tuple(self.task.schema.targets),
            safer=self.task.safer,
        )

    def _draws(self, row_N: npt.NDArray[np.int64]) -> torch.Tensor | None:
        """Return the random numbers of the audit, which belong to the rows of the file."""
        if self.task.audit is None:
            return None
        return torch.from_numpy(draws(self.task.audit_seed, self.source.name, self.size, row_N))

    def _count(self, batch: JetBatch, result: EngineResult) -> None:
        self.exits_E += np.bincount(result.exit_index_N.numpy(), minlength=len(self.exits_E))
        self.unclassified += int((batch.label_N < 0).sum()) if self.reader.labelled else 0
        self.empty += int((batch.inputs.counts_NG.sum(dim=1) == 0).sum())
        self.macs += int(result.macs_N.sum())
        self.full_macs += int(self.engine.tagger.exit_macs(batch.inputs.counts_NG, exits=())[-1].sum())
        if result.audit is not None:
            found = AuditReport.of(result.logits_NK, result.exit_index_N, len(self.exits_E) - 1, result.audit)
            self.audit = found if self.audit is None else self.audit + found
        if self.task.reference is not None and self.task.policy is not None:
            logits_ENK = result.visited_NEK.transpose(0, 1)
            inputs = input_observables(batch.inputs)
            seen = self.task.reference.count(self.task.policy, logits_ENK, result.exit_index_N, inputs)
            self.drift = seen if self.drift is None else self.drift + seen

    def _budget(self) -> BudgetReport | None:
        if self.budget is None or self.events is None:
            return self.budget
        return self.budget.model_copy(update={"returned": self.events.returned})

    def manifest(self, job: FileJob, checksums: dict[str, int]) -> Manifest:
        """Return the manifest of all jets so far, with the checksums of their columns."""
        return Manifest(
            recipe=self.task.recipe,
            input=job.input_file,
            rows=self.spans[-1].stop,
            labelled=self.reader.labelled,
            unclassified=self.unclassified,
            empty=self.empty,
            bad=dict(self.bad),
            exits=dict(zip(self.task.tagger.exit_names, self.exits_E.tolist(), strict=True)),
            macs=self.macs,
            full_macs=self.full_macs,
            drift=self.drift,
            budget=self._budget(),
            audit=self.audit,
            checksums=checksums,
        )
