"""Mode evaluate: how well each exit of the trained network does on jets it has not learned from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phaze_ee.data.files import expand_patterns
from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.schema import DataSchema, choose_background, schema_with_inputs_of
from phaze_ee.data.weaver_yaml import read_options
from phaze_ee.errors import UsageError
from phaze_ee.evaluation.answers import predict
from phaze_ee.evaluation.dynamic import evaluate_dynamic
from phaze_ee.evaluation.metrics import evaluate_exit, jets_per_class
from phaze_ee.evaluation.ood import evaluate_ood
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.machine import resolve_device
from phaze_ee.modes.console import console, counted, show, show_notes
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Setup, Trained, cached_jets, load_setup, load_trained, policy_of_model, weights_hash
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.ood import OODResults
from phaze_ee.tables.evaluation import evaluation_table, rejection_tables
from phaze_ee.tables.ood import ood_tables
from phaze_ee.tables.policy import dynamic_tables
from phaze_ee.types import Predictions
from phaze_ee.workspace import find_file


@dataclass(frozen=True)
class OODJets:
    """Files of jets of another kind than the project's, and a data configuration that reads them, without labels."""

    files: list[Path]
    schema: DataSchema


def requested_ood(request: Request, setup: Setup, trained: Trained) -> OODJets | None:
    """Return what ``--ood`` and ``--ood-data-config`` name; None without them.

    Raises:
        UsageError: a pattern matches no file, or there is a data configuration and no files.
        DataError: the data configuration is wrong, or gives other inputs than the model needs.
    """
    if not request.ood:
        if request.ood_data_config is not None:
            raise UsageError("--ood-data-config says how the files of --ood are read; give these too")
        return None
    files = expand_patterns("--ood", request.ood, setup.project.root)
    if request.ood_data_config is None:
        return OODJets(files, trained.schema.with_observers([]))
    path = find_file("--ood-data-config", request.ood_data_config, setup.project.root)
    return OODJets(files, schema_with_inputs_of(trained.schema, read_options(path), str(path)))


def run(request: Request) -> None:
    """Evaluate the project's best model on ``test_files`` (else ``val_files``) and write evaluation_results.json.

    Where there is a policy for the model, it is judged too; with ``--ood``, how well the exits notice other jets.
    """
    setup = load_setup(request)
    trained = load_trained(setup)
    ood = requested_ood(request, setup, trained)
    files, notes = _files(setup)
    console.print(f"Model: {trained.source}", soft_wrap=True, markup=False)
    console.print(f"Jets:  {_named(files)}", soft_wrap=True, markup=False)
    # First what most easily fails, before anything is written.
    ood_predictions = None if ood is None else _predict(setup, trained, ood.schema, ood.files, labelled=False)
    predictions = _predict(setup, trained, trained.schema, files)
    results = _results(setup, trained, files, predictions, [*trained.notes, *notes])
    results.write(setup.project.evaluation_results)
    show(evaluation_table(results))
    for table in rejection_tables(results):
        show(table)
    show_notes(results.notes)
    console.print(f"Written: {setup.project.evaluation_results}", soft_wrap=True, markup=False)
    policy_file = policy_of_model(setup.project, results.model_hash)
    if policy_file is not None:
        _evaluate_policy(setup, trained, policy_file, predictions, results)
    if ood is not None and ood_predictions is not None:
        _show_ood(setup, evaluate_ood(predictions, ood_predictions, ood.files, policy_file, results))


def _evaluate_policy(
    setup: Setup,
    trained: Trained,
    policy_file: ExitPolicyFile,
    predictions: Predictions,
    results: EvaluationResults,
) -> None:
    """Judge the project's exit policy on the same answers."""
    background = choose_background(predictions.class_names, setup.options.background)
    dynamic = evaluate_dynamic(predictions, policy_file, trained.tagger.fastest_form(), background, results)
    dynamic.write(setup.project.dynamic_results)
    for table in dynamic_tables(dynamic):
        show(table)
    show_notes(dynamic.notes)
    console.print(f"Written: {setup.project.dynamic_results}", soft_wrap=True, markup=False)


def _show_ood(setup: Setup, results: OODResults) -> None:
    results.write(setup.project.ood_results)
    for table in ood_tables(results):
        show(table)
    show_notes(results.notes)
    console.print(f"Written: {setup.project.ood_results}", soft_wrap=True, markup=False)


def _files(setup: Setup) -> tuple[list[Path], list[str]]:
    files = setup.files(setup.judged_files)
    if setup.judged_files == "test_files":
        return files, []
    warning = "c.test_files is empty, so these are the validation files, by which the best epoch was chosen"
    return files, [warning]


def _named(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{len(files)} files, {files[0]} … {files[-1]}"


def _predict(
    setup: Setup, trained: Trained, schema: DataSchema, files: Sequence[Path], *, labelled: bool = True
) -> Predictions:
    options, cache = setup.options, cached_jets(setup, schema, files, labelled=labelled)
    loader = evaluation_loader(
        schema,
        files,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        labelled=labelled,
        cache=cache,
    )
    return predict(trained.tagger, counted(loader), trained.schema.class_names, resolve_device(options.device))


def _results(
    setup: Setup, trained: Trained, files: Sequence[Path], predictions: Predictions, notes: list[str]
) -> EvaluationResults:
    background = choose_background(predictions.class_names, setup.options.background)
    counts = jets_per_class(predictions.label_N, predictions.class_names)
    exits = {
        name: evaluate_exit(logits_NK, predictions.label_N, predictions.class_names, background)
        for name, logits_NK in zip(predictions.exit_names, predictions.logits_ENK, strict=True)
    }
    return EvaluationResults(
        exits=exits,
        project=str(setup.project),
        model=trained.source,
        model_hash=weights_hash(setup),
        classes=list(predictions.class_names),
        jets=len(predictions),
        jets_per_class=counts,
        files=[str(path) for path in files],
        notes=[*notes, *_class_notes(counts, background)],
    )


def _class_notes(counts: dict[str, int], background: str | None) -> list[str]:
    notes = []
    absent = [name for name, count in counts.items() if count == 0]
    if absent:
        notes.append(f"no jets of {', '.join(absent)} in these files: the AUC is averaged over the other classes")
    if background is None:
        notes.append("no rejections: set c.background to the class that they should refer to")
    return notes
