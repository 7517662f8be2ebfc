"""Mode predict with ``--bundle``: the answers of an exported tagger, with its exits, for any files of jets.

It runs without torch and weaver, and reads no project.
"""

import dataclasses
import hashlib
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

from phaze_ee.atomic import remove_abandoned
from phaze_ee.data.files import expand_patterns
from phaze_ee.data.plain_config import PlainConfig
from phaze_ee.errors import DataError, UsageError
from phaze_ee.installation import require
from phaze_ee.modes.console import say, say_in_columns, say_written, show, show_notes
from phaze_ee.modes.predicted_files import collected, predicted_one_by_one, refuse_unusable
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.prediction.bundle_job import BundleTask, predict_file, used_variables
from phaze_ee.prediction.columns import check_classes, check_observers, renamed_classes
from phaze_ee.prediction.outputs import finished, plan
from phaze_ee.prediction.writers import Recipe
from phaze_ee.runtime.bundle import Bundle, load_bundle
from phaze_ee.tables.prediction import prediction_notes, prediction_table

_FOLDER = Path("predictions")
_MODEL = "model.onnx"
# A bundle holds one network and one policy, and runs in one process.
_OF_PROJECTS = (
    *(
        "project",
        "policy",
        "no_policy",
        "exit_scores",
        "max_exit",
        "event_budget",
        "event_size",
        "event_column",
        "monitor",
    ),
    *("audit", "audit_near", "seed", "workers", "scheduler", "trust"),
)


def run(session: Session) -> None:
    """Write predictions for ``--files``; one output for each file.

    Raises:
        UsageError: a flag is wrong, no file matches, the folder holds no bundle, or an output exists that was made
            otherwise.
        DataError: a file of the bundle or of jets cannot be used.
        RunError: an output cannot be written.
    """
    request = session.request
    _check_flags(request)
    assert request.bundle is not None
    bundle = load_bundle(request.bundle)
    say(f"Model:  {bundle.description.get('model', 'unknown')}, exported to {request.bundle}")
    promise = bundle.description.get("promise", "null")
    say_in_columns(f"Policy: {'none with a promise' if promise == 'null' else promise}")
    task = _task(bundle, request)
    files = expand_patterns("--files", request.files, None)
    folder = request.output or _FOLDER
    remove_abandoned(folder)
    jobs = plan(files, folder, request.format)
    done = [] if request.overwrite else [(job, finished(job, task.recipe)) for job in jobs]
    earlier = {job: manifest for job, manifest in done if manifest is not None}
    started = time.perf_counter()
    todo = [job for job in jobs if job not in earlier]
    each = predicted_one_by_one(todo, task.config.treename, partial(predict_file, task))
    made, bad = collected(each, len(todo), folder)
    if made or earlier:
        show(prediction_table(list(earlier.values()), made, time.perf_counter() - started))
        notes = renamed_classes(task.config.class_names)
        show_notes([*notes, *prediction_notes(jobs, list(earlier.values()), made)])
        say_written(folder)
    refuse_unusable(bad, len(jobs))


def _check_flags(request: Request) -> None:
    default = Request(request.mode)
    for name in _OF_PROJECTS:
        if getattr(request, name) != getattr(default, name):
            flag = "-p" if name == "project" else f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} is for predict of a project, not of a --bundle; leave it out")
    if request.flags:
        raise UsageError(
            "--extra-selection-test is for predict of a project; export with it in the configuration, or leave it out"
        )
    if not request.files:
        raise UsageError("predict of a --bundle needs --files: the files of jets")
    if request.format == "parquet":
        require("pyarrow", "--format parquet", "pyarrow")


def _task(bundle: Bundle, request: Request) -> BundleTask:
    assert request.bundle is not None
    origin = f"the data config in {request.bundle / _MODEL}"
    config = PlainConfig.of(_options(bundle, origin), origin, bad_values=_bad_values(bundle, origin))
    if request.tree is not None:
        config = dataclasses.replace(config, treename=request.tree)
    names = list(config.z_variables if request.observers is None else request.observers)
    written = tuple(name for name in names if name not in {*config.label_value} & {*config.class_names})
    check_classes(config.class_names)
    check_observers(written, config.class_names)
    if written != config.z_variables:
        config = dataclasses.replace(config, observer_names=written, monitor_variables=())
    used = [name for own in used_variables(bundle) for name in own]
    unknown = [name for name in used if name not in config.preprocess_params]
    if unknown or config.class_names != bundle.classes:
        what = f"does not have the input {unknown[0]}" if unknown else "has other classes than the network"
        raise DataError(f"{origin} {what}; export again")
    params = {name: config.preprocess_params[name] for name in used}
    return BundleTask(bundle, dataclasses.replace(config, preprocess_params=params), _recipe(bundle, config, request))


def _options(bundle: Bundle, origin: str) -> dict[str, Any]:
    try:
        options = json.loads(bundle.description["data_config"])
    except (LookupError, ValueError) as error:
        raise DataError(f"{origin} cannot be read ({error!r}); export again") from error
    if not isinstance(options, dict):
        raise DataError(f"{origin} holds no sections; export again")
    return options


def _bad_values(bundle: Bundle, origin: str) -> Any:
    kept = bundle.description.get("bad_values", "refuse")
    if kept not in ("refuse", "zero"):
        raise DataError(f"{origin}: bad_values is {kept!r}, which is neither 'refuse' nor 'zero'; export again")
    return kept


def _recipe(bundle: Bundle, config: PlainConfig, request: Request) -> Recipe:
    """Return what the answers depend on. The model is the ONNX file, which rounds otherwise than the network."""
    assert request.bundle is not None
    texts = bundle.description
    policy = [texts.get(name, "null") for name in ("score", "thresholds", "temperatures")]
    read = [texts["data_config"], config.z_variables, config.bad_values, *([request.tree] if request.tree else [])]
    return Recipe(
        model=hashlib.sha256((request.bundle / _MODEL).read_bytes()).hexdigest(),
        policy=None if texts.get("score", "null") == "null" else _digest(policy),
        data=_digest(read),
        exit_scores=False,
        monitored=None,
        cascade=bundle.cascade is not None,
    )


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
