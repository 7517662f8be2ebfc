"""Which layers of an imported network start afresh or learn at another rate, as in the command of weaver."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from phaze_ee.config.weaver_command import LayerPatterns
from phaze_ee.errors import UsageError
from phaze_ee.models.backbone import Backbone
from phaze_ee.models.checkpoint import by_our_names
from phaze_ee.models.checkpoint_content import UNWRAPPED, is_tagger, read
from phaze_ee.models.layers_by_name import is_in


def layer_options(
    patterns: LayerPatterns, model: nn.Module, backbone: Backbone[Any], weights: Path | None
) -> dict[str, Any]:
    """Return the options ``fresh_layers`` and ``lr_factors``; those that have their defaults are left out.

    Where the head of the network learns faster, so do those of the exits, which are as new.

    Args:
        patterns: of the command.
        model: the network, as weaver calls it.
        backbone: of the network, with the same weights.
        weights: the file to start from; None: there is none.

    Raises:
        UsageError: a pattern matches no parameter, or the file has weights without the prefix.
        CheckpointError: the file cannot be read.
    """
    own = {id(value): name for name, value in backbone.named_parameters()}
    names = {name: own[id(value)] for name, value in model.named_parameters() if id(value) in own}
    factors: dict[str, float] = {}
    for pattern, factor in patterns.factors.items():
        layers = _layers_of(_matched("lr_mult", pattern, names), own.values())
        factors.update(dict.fromkeys(layers, factor))
        if factor and backbone.class_layer is not None and is_in(backbone.class_layer, layers):
            factors["heads"] = factor
    stopped = [name for pattern in patterns.frozen for name in _matched("--freeze-model-weights", pattern, names)]
    frozen = _layers_of(stopped, own.values())
    moving = {layer: factor for layer, factor in factors.items() if not is_in(layer, frozen)}
    factors = {**moving, **dict.fromkeys(frozen, 0.0)}
    fresh = [] if weights is None else _fresh(patterns, model, backbone, weights)
    return {**({"fresh_layers": fresh} if fresh else {}), **({"lr_factors": factors} if factors else {})}


def _matched(option: str, pattern: str, names: Mapping[str, str]) -> list[str]:
    found = [ours for theirs, ours in names.items() if re.match(pattern, theirs)]
    if not found:
        shown = ", ".join(list(names)[-2:])
        raise UsageError(
            f"--command: {option}: no parameter of the network begins with {pattern!r}; the last ones are {shown}"
        )
    return found


def _fresh(patterns: LayerPatterns, model: nn.Module, backbone: Backbone[Any], weights: Path) -> list[str]:
    """Return the layers whose weights are not in a file, or are left out; none if the file is of another network."""
    content = read(weights)[0]
    if is_tagger(content):
        return []
    prefix = "".join(f"{part}." for part in patterns.prefix.split(".") if part not in ("", *UNWRAPPED))
    others = [name for name in content if not name.startswith(prefix)]
    if others:
        raise UsageError(
            f"--command: --load-model-weights: {weights} holds {others[0]}, which does not begin with {prefix!r}; "
            "correct the prefix, or give a file that holds nothing else"
        )
    stored = {name.removeprefix(prefix): value for name, value in content.items()}
    kept = {name: value for name, value in stored.items() if not _excluded(name, patterns)}
    if not kept:
        raise UsageError(
            f"--command: --exclude-model-weights leaves out every weight of {weights}; leave out --load-model-weights"
        )
    if kept.keys() & model.state_dict().keys():  # else all names have another prefix than in the model
        # weaver does not load a weight by the name that its layer has here, if the layer has another one in its model.
        elsewhere = set(backbone.names_in_wrapper.values())
        kept = {name: value for name, value in kept.items() if name not in elsewhere}
    loaded, own = by_our_names(backbone, kept), list(backbone.state_dict())
    fresh = [name for name in own if name not in loaded]
    return [] if len(fresh) == len(own) else _layers_of(fresh, own)


def _excluded(name: str, patterns: LayerPatterns) -> bool:
    return any(re.match(pattern, name) for pattern in patterns.excluded)


def _layers_of(names: Iterable[str], among: Iterable[str]) -> list[str]:
    """Return the largest layers that hold these parameters and no other."""
    chosen, others = list(names), set(among) - set(names)
    found: dict[str, None] = {}
    for name in chosen:
        parts = name.split(".")
        layers = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
        found[next(layer for layer in layers if not any(is_in(other, [layer]) for other in others))] = None
    return list(found)
