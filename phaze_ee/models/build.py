"""From a configuration to a tagger: a network file of weaver builds the network, and this module adds the exits."""

import copy
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from weaver.utils.data.config import DataConfig

from phaze_ee.config.options import NetworkOptions
from phaze_ee.errors import USER_CODE_ERRORS, UsageError, one_line
from phaze_ee.input_groups import input_collections, jet_globals, targets_in
from phaze_ee.models.backbone import BACKBONES, Backbone, plain
from phaze_ee.models.heads import HeadShape
from phaze_ee.models.network_file import collection_channels
from phaze_ee.models.tagger import Tagger
from phaze_ee.models.wrapped_head import with_head
from phaze_ee.models.wrapper_check import check_wrapper
from phaze_ee.names import brief
from phaze_ee.registry import REGISTERED
from phaze_ee.user_files import import_file, is_plugin

_log = logging.getLogger(__name__)

_OF_TRAININGS = ("get_train_fn", "get_evaluate_fn", "init_opt")  # functions of a network file that weaver calls
_SHOWN = 80  # characters of options in a message
# Options of ParticleNet; get_model of its network file has them as keywords.
_PARTICLE_NET_KEYS = ("conv_params", "fc_params", "use_fusion", "use_fts_bn", "use_counts")


def build_tagger(options: NetworkOptions, network_config: Path, data_config: DataConfig) -> Tagger:
    """Build the configured network with exits, with initial weights.

    Args:
        options: the options of the network; those of the architecture are keywords of ``get_model``.
        network_config: a network file of weaver. Its ``get_model`` may wrap the network in other modules, as the
            published files do; the known network inside is used.
        data_config: the data configuration of weaver, an argument of ``get_model``.

    Raises:
        UsageError: the file cannot be run, holds no known network, or contradicts the options.
    """
    keywords, source = _keywords(options), str(network_config)
    model = build_network(options, network_config, data_config)
    backbone = adopt(model, source)
    _check_network(backbone, options, network_config, data_config)
    check_wrapper(model, backbone, data_config, network_config)
    numbers = jet_globals(data_config, source)
    if numbers is not None:
        backbone.take_globals(numbers.feature_count)
    _report_average(backbone, network_config)
    _report_ignored(keywords, backbone, network_config)
    _report_unused(network_config, data_config, keywords)
    tagger = Tagger(
        backbone,
        options.stages_with_exit(len(backbone.stage_channels)),
        options.exit_head,
        head_shape=HeadShape(options.exit_head_width, options.exit_head_depth),
        link=options.exit_link,
        targets=len(targets_in(data_config)),
    )
    _set_scales(tagger, data_config)
    return tagger


def _check_network(
    backbone: Backbone[Any], options: NetworkOptions, network_config: Path, data_config: DataConfig
) -> None:
    """Refuse a network that is not what the options say, or not for the data configuration."""
    if "model_name" in options.model_fields_set and not isinstance(backbone, BACKBONES[options.model_name]):
        raise UsageError(
            f"model_name = {options.model_name!r}, but {network_config} builds a {type(backbone).__name__}; correct "
            "model_name or network_config"
        )
    _check_collections(backbone, network_config, data_config)
    _check_points(backbone, network_config, data_config)
    registered = REGISTERED["model_name"].get(backbone.name)
    if registered is not None and not is_plugin(registered.file):
        raise UsageError(
            f"{network_config} registers the backbone {backbone.name!r} for this command alone; name the file in "
            "c.plugins too, so that all modes know the network"
        )
    classes = backbone.num_classes - len(targets_in(data_config))
    if options.num_classes is not None and options.num_classes != classes:
        raise UsageError(
            f"num_classes = {options.num_classes}, but {network_config} with this data_config builds a network for "
            f"{classes} classes; correct num_classes or remove it"
        )
    _check_sizes(backbone, network_config, data_config, _keywords(options))
    stages = len(backbone.stage_channels)
    if options.exit_stages is None and (options.num_exit_points or 0) > stages:
        raise UsageError(
            f"num_exit_points = {options.num_exit_points}, and this {backbone.name} has {stages} stages; give at most "
            "as many"
        )


def _check_points(backbone: Backbone[Any], network_config: Path, data_config: DataConfig) -> None:
    given = input_collections(data_config, str(network_config))
    without = [own for own in given if "points" not in own.groups]
    if backbone.reads_points and without:
        raise UsageError(
            f"{network_config} builds a {backbone.name}, which looks for neighbours among points, and the data_config "
            f"has the inputs {', '.join(data_config.input_names)}; add a group, for example {without[0].name}_points"
        )


def _set_scales(tagger: Tagger, data_config: DataConfig) -> None:
    """Give the tagger center and spread of its targets, where these are known already."""
    scales = data_config.options["labels"].get("target_scales")
    if tagger.targets is not None and scales is not None:
        own = [scales[name] for name in targets_in(data_config)]
        tagger.targets.set_scales([scale["center"] for scale in own], [scale["spread"] for scale in own])


def _check_sizes(
    backbone: Backbone[Any], network_config: Path, data_config: DataConfig, keywords: Mapping[str, Any]
) -> None:
    """Refuse a network for other features or outputs than the data configuration has, from which it must take both."""
    given, targets = list(collection_channels(data_config).values()), len(targets_in(data_config))
    taken = list(backbone.collections.values()) or [backbone.input_channels]
    classes = len(data_config.label_value)
    about_targets = f" and {targets} of labels.targets" if targets else ""
    if taken != given:
        built, has = (f"{' + '.join(map(str, counts))} features" for counts in (taken, given))
        built = f"for {built}"
        mend = "let it make as many"
    elif backbone.num_classes != classes + targets:
        built, has = f"with {backbone.num_classes} outputs", f"{classes} classes{about_targets}"
        mend = "let it make len(data_config.label_value) outputs"
    else:
        return
    if keywords:
        mend += f", or remove the option that sets their number ({', '.join(keywords)})"
    raise UsageError(f"{network_config} builds a network {built}, and the data_config has {has}; {mend}")


def _check_collections(backbone: Backbone[Any], network_config: Path, data_config: DataConfig) -> None:
    given, taken = list(collection_channels(data_config)), list(backbone.collections)
    if len(given) != max(1, len(taken)):
        raise UsageError(
            f"{network_config} builds a {backbone.name} for {_described(taken)}, and the data_config has "
            f"{_described(given)}; give the inputs of {_described(taken)} alone, or another network"
        )
    if set(given) == set(taken) and given != taken:
        raise UsageError(
            f"{network_config} builds a {backbone.name} for {_described(taken)}, and the data_config has "
            f"{_described(given)}; list its inputs in that order"
        )


def _described(collections: Sequence[str]) -> str:
    return f"the collections {', '.join(collections)}" if len(collections) > 1 else "one collection of particles"


def build_network(options: NetworkOptions, network_config: Path, data_config: DataConfig) -> nn.Module:
    """Return the network that the network file builds, as weaver calls it. Targets count as classes for it.

    Raises:
        UsageError: the file cannot be run.
    """
    targets = list(targets_in(data_config).values())
    if targets:
        labels = {"type": "simple", "value": [*data_config.label_value, *targets]}
        data_config = DataConfig(print_info=False, **copy.deepcopy({**data_config.options, "labels": labels}))
    return _make_model(network_config, data_config, _keywords(options))


def adopt(model: nn.Module, source: str) -> Backbone[Any]:
    """Return the backbone of the one known network in ``model``.

    Raises:
        UsageError: there is no known network, or more than one.
    """
    kinds = {module: kind for kind in BACKBONES.values() for module in kind.staged_classes()}
    found = [(kinds[type(module)], module) for module in _outermost(model, kinds)]
    if len(found) != 1:
        raise UsageError(f"{source}: get_model returns a {type(model).__name__}, {_misfit(model, kinds, len(found))}")
    kind, module = found[0]
    backbone = kind.from_weaver(with_head(model, module))
    own = {id(value): name for name, value in backbone.state_dict(keep_vars=True).items()}
    theirs = {name: own.get(id(value), name) for name, value in model.state_dict(keep_vars=True).items()}
    known = frozenset(own.values())
    backbone.names_in_wrapper = {name: ours for name, ours in theirs.items() if name not in known and ours in known}
    return backbone


def _misfit(model: nn.Module, kinds: Collection[type[nn.Module]], found: int) -> str:
    """Return why a network cannot get exits, as it has not exactly one known network, and what helps."""
    if found:
        return f"which holds {found} of the networks {', '.join(BACKBONES)}; exits need exactly one: return that one"
    derived = next((own for module in model.modules() for own in kinds if isinstance(module, own)), None)
    if derived is None:
        return f"which holds none of the networks {', '.join(BACKBONES)}; return one, or see docs/EXTENDING.md"
    held = "" if isinstance(model, derived) else "which holds "
    return f"{held}a subclass of {derived.__name__}; return {derived.__name__} itself, or see docs/EXTENDING.md"


def _outermost(model: nn.Module, kinds: Collection[type[nn.Module]]) -> Iterator[nn.Module]:
    """Yield the modules of some classes that are not inside of another one."""
    if type(model) in kinds:
        yield model
        return
    for child in model.children():
        yield from _outermost(child, kinds)


def _keywords(options: NetworkOptions) -> dict[str, Any]:
    """Return the keywords of get_model: only options that are set, because the network file has its own defaults."""
    own = options.model_fields_set if options.model_name == "ParticleNet" else ()
    return {**{key: getattr(options, key) for key in _PARTICLE_NET_KEYS if key in own}, **options.network_options}


def _make_model(path: Path, data_config: DataConfig, keywords: Mapping[str, Any]) -> nn.Module:
    try:
        get_model = getattr(import_file(path), "get_model", None)
    except USER_CODE_ERRORS as error:
        raise UsageError(f"network_config {path} cannot be imported: {one_line(error)}") from error
    if not callable(get_model):
        raise UsageError(f"network_config {path} defines no get_model(data_config, **kwargs)")
    try:
        model, _ = get_model(data_config, **keywords)
    except USER_CODE_ERRORS as error:
        given = ", ".join(f"{name} = {value!r}" for name, value in keywords.items())
        options = f"; its options are {brief(given, _SHOWN)}" if given else ""
        raise UsageError(f"network_config {path}: get_model fails: {one_line(error)}{options}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"network_config {path}: get_model returns a {type(model).__name__}, not a network")
    return model


def _report_ignored(wanted: Mapping[str, Any], backbone: Backbone[Any], source: Path) -> None:
    built = {key: value for key, value in backbone.arguments.items() if key != backbone.moved_keyword}
    for key, value in wanted.items():
        if key in built and plain(value) != plain(built[key]) and not _asks_for(backbone, key, value):
            _log.warning(
                "%s sets %s = %s itself; the option %s = %s has no effect", source, key, built[key], key, value
            )


def _report_average(backbone: Backbone[Any], source: Path) -> None:
    if backbone.averages_padding:
        _log.warning(
            "%s: without use_counts the answer for a jet depends on the longest jet of its batch, as in weaver", source
        )


def _report_unused(source: Path, data_config: DataConfig, keywords: Mapping[str, Any]) -> None:
    """Say which functions of a network file would change a training of weaver, and have no effect here."""
    module = import_file(source)
    unused = [name for name in _OF_TRAININGS if callable(getattr(module, name, None))]
    if callable(getattr(module, "get_loss", None)) and not _is_usual_loss(module, data_config, keywords):
        unused.append("get_loss")
    if unused:
        has = "has" if len(unused) == 1 else "have"
        _log.warning("%s: its %s %s no effect here (docs/FROM_WEAVER.md)", source, " and ".join(unused), has)


def _is_usual_loss(module: ModuleType, data_config: DataConfig, keywords: Mapping[str, Any]) -> bool:
    """Return whether the loss is the cross-entropy, as in most network files."""
    try:
        loss = module.get_loss(data_config, **keywords)
    except USER_CODE_ERRORS:
        return False
    usual = (None, 0.0, "mean", -100)
    names = ("weight", "label_smoothing", "reduction", "ignore_index")
    return type(loss) is nn.CrossEntropyLoss and tuple(getattr(loss, name) for name in names) == usual


def _asks_for(backbone: Backbone[Any], key: str, value: Any) -> bool:
    """Whether a value means what was built in another form, such as (16, 64) for (16, 64, [(1, 1)], 64)."""
    built = dict(backbone.arguments)
    try:
        with torch.device("meta"):
            arguments = type(backbone).from_arguments({**built, key: value}).arguments
    except (*USER_CODE_ERRORS, UsageError):
        return False
    return bool(plain(arguments) == plain(built))
