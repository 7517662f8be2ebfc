"""Mode evaluate: measure how well each exit of the trained network does on jets that it was not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phaze_ee.atomic import check_can_write
from phaze_ee.data.files import expand_patterns
from phaze_ee.data.rows import RowReader
from phaze_ee.data.schema import DataSchema, schema_with_inputs_of
from phaze_ee.data.sources import open_source
from phaze_ee.data.weaver_yaml import read_options
from phaze_ee.errors import UsageError
from phaze_ee.evaluation.analysis_files import write_efficiencies
from phaze_ee.evaluation.answers import predict
from phaze_ee.evaluation.dynamic import evaluate_dynamic
from phaze_ee.evaluation.metrics import evaluate_exits
from phaze_ee.evaluation.ood import evaluate_ood
from phaze_ee.exits.answers import Answers
from phaze_ee.exits.targets import SignalEfficiency
from phaze_ee.modes.console import counted, say, say_in_columns, say_new, say_where, show, show_details, show_notes
from phaze_ee.modes.jets import (
    judging_schema,
    named,
    overlap_with_training,
    testing_schema,
    validation_files,
    with_observables,
)
from phaze_ee.modes.session import Session
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.ood import OODResults
from phaze_ee.results.policy import DynamicResults
from phaze_ee.results.project import with_policy
from phaze_ee.tables.evaluation import evaluation_table, rejection_tables, summary_table
from phaze_ee.tables.ood import auroc_table, leaving_table
from phaze_ee.tables.paired import paired_sentence, paired_table
from phaze_ee.tables.policy import dynamic_tables, realised_lines
from phaze_ee.tables.regression import target_rows, target_tables
from phaze_ee.workspace import find_file


@dataclass(frozen=True)
class OODJets:
    """Files of out-of-distribution jets, and a data configuration that reads them without labels."""

    files: list[Path]
    schema: DataSchema


def requested_ood(session: Session) -> OODJets | None:
    """Return what ``--ood`` and ``--ood-data-config`` name; None without them.

    Raises:
        UsageError: a pattern matches no file, or there is a data configuration and no files.
        DataError: the data configuration is wrong, or gives other inputs than the model needs.
    """
    request, schema = session.request, session.model.schema
    if not request.ood:
        if request.ood_data_config is not None:
            raise UsageError("--ood-data-config says how the files of --ood are read; give --ood too")
        return None
    files = expand_patterns("--ood", request.ood, session.project.root)
    if request.ood_data_config is None:
        return OODJets(files, testing_schema(session, schema).with_observers([]))
    path = find_file("--ood-data-config", request.ood_data_config, session.project.root)
    trusted = session.options.trust_expressions
    return OODJets(files, schema_with_inputs_of(schema, read_options(path), str(path), trusted=trusted))


def refuse_early(session: Session) -> None:
    """Refuse files that lack a branch, before a training; a model that is there reads its own branches.

    Raises:
        UsageError, DataError: so it is, or the configuration is wrong.
    """
    if session.project.best_model.is_file():
        return
    schema = judging_schema(session, session.schema, session.judged_files)
    reader = RowReader(schema, training=False)
    for path in session.files(session.judged_files):
        with open_source(path, schema.weaver.treename) as source:
            reader.check(source, path)


def run(session: Session) -> None:
    """Evaluate the project's best model on ``test_files`` (else ``val_files``) and write evaluation_results.json.

    If the model has an exit policy, it is evaluated too. With ``--ood``, so is how well the exits notice other jets.
    """
    check_can_write(session.project.results)
    model = session.model
    ood = requested_ood(session)
    files, notes = _files(session)
    say_new(f"Model:  {session.project}, {model.title}")
    say(f"Jets:  {named(session, session.judged_files)}")
    # First what fails most easily, before anything is written.
    policy = session.policy
    ood_answers = None if ood is None else _predict(session, ood.schema, ood.files, labelled=False)
    schema = judging_schema(session, model.schema, session.judged_files)
    promised_in = {} if policy is None else policy.file.guarantee.conditions.bins
    answers = _predict(session, with_observables(schema, promised_in), files)
    results = evaluate_exits(answers, session.background, session.provenance(files, [*model.notes, *notes], schema))
    results.write(session.project.evaluation_results)
    written = [session.project.evaluation_results]
    dynamic = None
    if policy is not None:
        dynamic = evaluate_dynamic(answers, policy, session.background, results)
        dynamic.write(session.project.dynamic_results)
        written.append(session.project.dynamic_results)
        written += write_efficiencies(session.project.efficiencies, dynamic)
    _show(session, results, dynamic)
    say_where(written, details=session.request.details)
    if ood is not None and ood_answers is not None:
        _show_ood(session, evaluate_ood(answers, ood_answers, ood.files, policy, results))


def _show(session: Session, results: EvaluationResults, dynamic: DynamicResults | None) -> None:
    """Print one table of exits and policy, and what became of the promise; with ``--details`` all tables."""
    details, policy = session.request.details, session.policy
    target = None if policy is None else policy.file.target
    signal = target.signal if isinstance(target, SignalEfficiency) else None
    mixture, prior = (None, None) if dynamic is None else (dynamic.mixture, dynamic.prior)
    show(summary_table(results, mixture, signal, prior))
    for table in target_tables(target_rows(with_policy(results, dynamic).exits)):
        show(table)
    paired = paired_table(results, mixture)
    more = [] if paired is None else [paired]
    show_details([*more, evaluation_table(results), *rejection_tables(results)], wanted=details)
    show_notes(results.notes)
    if dynamic is None or policy is None:
        return
    show_details(dynamic_tables(dynamic), wanted=details)
    show_notes(dynamic.notes)
    lines = realised_lines(dynamic) if policy.file.lets_jets_leave else []  # the full model loses nothing by itself
    for line in lines or [policy.file.guarantee.statement]:
        say_in_columns(f"Policy {policy.name}: {line}")
    if difference := paired_sentence(dynamic):
        say_in_columns(f"Policy {policy.name}: {difference}")


def _show_ood(session: Session, results: OODResults) -> None:
    results.write(session.project.ood_results)
    show(auroc_table(results))
    show_details([] if results.policy is None else [leaving_table(results.policy)], wanted=session.request.details)
    show_notes(results.notes)
    say_where([session.project.ood_results], details=session.request.details)


def _files(session: Session) -> tuple[list[Path], list[str]]:
    option = session.judged_files
    learned = overlap_with_training(session, option)
    if option == "test_files":
        return session.files(option), learned
    note = "c.test_files is empty, so these are the validation jets, which also chose the best epoch"
    return validation_files(session), [note, *learned]


def _predict(session: Session, schema: DataSchema, files: Sequence[Path], *, labelled: bool = True) -> Answers:
    model = session.model
    batches = counted(session.evaluation_jets(schema, files, labelled=labelled))
    return predict(
        model.tagger,
        batches,
        model.schema.class_names,
        session.device,
        session.options.precision,
        targets=tuple(model.schema.targets),
    )
