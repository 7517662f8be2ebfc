"""What has changed in a data configuration since a training, apart from what concerns a training alone.

Observers and the name of the tree never reach the network, so those of the YAML file as it is now hold for a model of
before.
"""

from typing import Any

from phaze_ee.data.branches import columns_for
from phaze_ee.data.evaluation import names_in
from phaze_ee.data.schema import DataSchema

# Weights are of the training; the parameters of preprocess are compared one by one, as a training completes them.
_APART = {"weights", "preprocess"}
_FREE = ("treename", "observers", "monitor_variables")
_COMPUTED = ("center", "scale")


def changed_sections(trained: DataSchema, now: DataSchema) -> list[str]:
    """Return the names of the sections that differ, in alphabetical order.

    Args:
        trained: of a model, with what its training computed.
        now: as the YAML file has it.
    """
    names = {*trained.options, *now.options} - _APART
    changed = {name for name in names if _section(trained, name) != _section(now, name)}
    ours, theirs = trained.weaver.preprocess_params, now.weaver.preprocess_params
    if any(_chosen(ours[name], theirs[name]) != _chosen(theirs[name], theirs[name]) for name in {*ours} & {*theirs}):
        changed.add("inputs")
    return sorted(changed)


def with_free_sections_of(trained: DataSchema, now: DataSchema) -> DataSchema:
    """Return the schema of a model with tree and observers of another, and the new variables that only these need.

    A new variable of the model keeps its formula, because inputs may be made from it.

    Args:
        trained: of a model.
        now: as the YAML file has it.

    Raises:
        DataError: weaver refuses them together.
    """
    free = {name: now.options.get(name) for name in _FREE}
    _, formulas = columns_for(now.weaver, now.weaver.z_variables)
    own: dict[str, str] = trained.options.get("new_variables") or {}
    missing = {name: now.options["new_variables"][name] for name in formulas if name not in trained.weaver.var_funcs}
    if all(trained.options.get(name) == value for name, value in free.items()) and not missing:
        return trained
    added = {"new_variables": {**own, **missing}} if missing else {}
    return trained.with_options({**free, **added}, now.trusted)


def _section(schema: DataSchema, name: str) -> Any:
    if name == "new_variables":
        return _used_formulas(schema)
    section = schema.options.get(name) or None
    return {**section, "target_scales": None} if name == "labels" and section else section


def _used_formulas(schema: DataSchema) -> dict[str, str]:
    """Return the new variables from which a network, a selection or an observer is made, by name."""
    config = schema.weaver
    cuts = [cut for cut in (config.selection, config.test_time_selection) if cut]
    made = [*schema.labels, *schema.targets.values(), *cuts]
    names = {*config.preprocess_params, *config.z_variables, *(name for text in made for name in names_in(text))}
    return columns_for(config, names)[1]


def _chosen(parameters: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return what a YAML file chooses for a variable, without what it leaves to a training."""
    left_out = _COMPUTED if now["center"] == "auto" else ()
    return {key: value for key, value in parameters.items() if key not in left_out}
