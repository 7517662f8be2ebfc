"""The jets of ``evaluate --ood``: which files, and how the network reads them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phaze_ee.data.files import expand_patterns
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.weaver_yaml import read_options
from phaze_ee.errors import DataError, UsageError
from phaze_ee.modes.inputs import Setup, Trained
from phaze_ee.modes.request import Request
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


def schema_with_inputs_of(model: DataSchema, options: dict[str, Any], origin: str) -> DataSchema:
    """Return a data configuration that gives a model the inputs that it was trained with.

    Tree, names of branches, selection and the formulas of variables are those of ``options``; labels, weights and
    observers in it are not looked at. The standardisation is the model's.

    Args:
        model: the data configuration of the model.
        options: the content of a weaver data YAML.
        origin: where it comes from, for errors.

    Raises:
        DataError: it is wrong, or has other input variables or another standardisation.
    """
    unlabelled = {"labels": model.options["labels"], "weights": None, "observers": None, "monitor_variables": None}
    other = DataSchema({**options, **unlabelled}, origin)
    if other.weaver.input_dicts != model.weaver.input_dicts:
        raise DataError(f"{origin}: {_difference(model, other)}; give the inputs of the model, in their order")
    own = model.weaver.preprocess_params
    for name, parameters in other.weaver.preprocess_params.items():
        if parameters["center"] != "auto" and parameters != own[name]:
            wrong = next(key for key in parameters if parameters[key] != own[name][key])
            raise DataError(
                f"{origin}: {name} has {wrong} {parameters[wrong]}, the model was trained with {own[name][wrong]}; "
                "copy the inputs of the model's data config"
            )
    inputs = {key: model.options[key] for key in ("inputs", "preprocess")}
    return DataSchema({**other.options, **inputs}, origin)


def _difference(model: DataSchema, other: DataSchema) -> str:
    """Return in words the first thing in which the inputs of two data configurations differ."""
    ours, theirs = model.weaver.input_dicts, other.weaver.input_dicts
    for group, names in ours.items():
        given = theirs.get(group, [])
        lacking, extra = _without(names, given), _without(given, names)
        if lacking or extra:
            return f"{group} lacks {lacking}" if lacking else f"{group} has {extra}, which the model does not know"
        if given != names:
            return f"the variables of {group} come in another order"
    return f"the model does not know {_without(list(theirs), list(ours))}"


def _without(names: list[str], others: list[str]) -> str:
    return ", ".join(name for name in names if name not in others)
