"""What has changed in a data configuration since a training, apart from what concerns a training alone."""

from typing import Any

from phaze_ee.data.schema import DataSchema

# Weights are of the training; the parameters of preprocess are compared one by one, as a training completes them.
_APART = {"weights", "preprocess"}
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


def _section(schema: DataSchema, name: str) -> Any:
    section = schema.options.get(name) or None
    return {**section, "target_scales": None} if name == "labels" and section else section


def _chosen(parameters: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return what a YAML file chooses for a variable, without what it leaves to a training."""
    left_out = _COMPUTED if now["center"] == "auto" else ()
    return {key: value for key, value in parameters.items() if key not in left_out}
