"""Optimisers, learning-rate schedules and weight decay."""

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from torch import nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from phaze_ee.config.options import TrainingOptions
from phaze_ee.models.layers_by_name import innermost
from phaze_ee.training.ranger import Ranger

_FLAT_SHARE = 0.7
_FINAL_SHARE = 0.01
_LAST_FACTOR = 0.001  # of flat_linear and flat_cosine


# AdamW has the betas of weaver, so that runs can be compared; Adam has those of torch.
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "ranger": Ranger,
    "adamw": lambda groups, lr: AdamW(groups, lr=lr, betas=(0.95, 0.999)),
    "adam": Adam,
}


def flat_decay(step: int, total_steps: int) -> float:
    """Return 1 for the first 70 % of the steps, then fall exponentially to 1 % at the last.

    weaver's flat+decay falls along the same curve, but once an epoch.
    """
    flat_steps = math.floor(_FLAT_SHARE * total_steps)
    decay_steps = max(1, total_steps - flat_steps)
    done = max(0, step - flat_steps + 1) / decay_steps
    return float(_FINAL_SHARE ** min(1.0, done))


def cosine(step: float, total_steps: float) -> float:
    """Return half a cosine, from 1 at the first step to 0 just after the last."""
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / max(1.0, total_steps))))


def one_cycle(step: int, total_steps: int) -> float:
    """Rise from 4 % to 1 over the first 30 % of the steps, then fall to nearly 0 (arXiv:1708.07120)."""
    peak, start = 0.3 * total_steps, 0.04
    if step < peak:
        return start + (1.0 - start) * 0.5 * (1.0 - math.cos(math.pi * step / peak))
    return max(1e-4, 0.5 * (1.0 + math.cos(math.pi * (step - peak) / max(1.0, total_steps - peak))))


def thirds(step: int, total_steps: int) -> float:
    """Return 1 in the first third of the steps, 0.1 in the second and 0.01 in the last.

    weaver's steps do so at whole epochs.
    """
    third = max(1, round(total_steps / 3))
    return float(0.1 ** min(2, step // third))


def flat_linear(step: int, total_steps: int, warm_up: float) -> float:
    """Rise from 0 over ``warm_up`` steps, stay at 1 up to 70 %, then fall in a line to 0.1 % (weaver's flat+linear)."""
    return step / warm_up if step < warm_up else max(_LAST_FACTOR, 1.0 - _after_flat(step, total_steps))


def flat_cosine(step: int, total_steps: int, warm_up: float) -> float:
    """The same with half a cosine in place of the line (weaver's flat+cos)."""
    if step < warm_up:
        return step / warm_up
    return max(_LAST_FACTOR, 0.5 * (1.0 + math.cos(math.pi * _after_flat(step, total_steps))))


def warm_up_cosine(step: int, total_steps: int, warm_up: float) -> float:
    """Rise from 0 over ``warm_up`` steps, then fall as half a cosine to 0 (weaver's warmup+cos)."""
    if step < warm_up:
        return step / max(1.0, warm_up)
    return cosine(step - warm_up, total_steps - warm_up)


LR_SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "flat_decay": flat_decay,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "steps": thirds,
    "none": lambda step, total_steps: 1.0,
}
# Their third argument is the number of steps in which the learning rate rises.
WARM_UP_SCHEDULES: dict[str, Callable[[int, int, float], float]] = {
    "flat_linear": flat_linear,
    "flat_cosine": flat_cosine,
    "warm_up_cosine": warm_up_cosine,
}


def parameter_groups(
    module: nn.Module, weight_decay: float, lr: float, factors: Mapping[str, float] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Split parameters into those with weight decay and those without, as weaver does, for each learning rate.

    Biases and weights of normalisations (all vectors) have none, nor have parameters that a submodule names in a method
    ``no_weight_decay``, such as the class token of ParT.

    Args:
        module: a tagger, or its backbone.
        weight_decay: that of the parameters that have it.
        lr: the learning rate of all layers without a factor.
        factors: the learning rates of some layers relative to it, by their names.
    """
    named = {id(weight) for part in module.modules() for weight in _named_without_decay(part)}
    groups: dict[float, list[dict[str, Any]]] = {}
    for factor in (1.0, *factors.values()):
        groups[factor] = [{"params": [], "weight_decay": decay, "lr": factor * lr} for decay in (weight_decay, 0.0)]
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            layer = innermost(name, factors)
            spared = parameter.ndim <= 1 or id(parameter) in named
            groups[1.0 if layer is None else factors[layer]][spared]["params"].append(parameter)
    return [group for factor, pair in groups.items() for group in pair if factor == 1 or group["params"]]


def build_optimizer(module: nn.Module, options: TrainingOptions, total_steps: int) -> tuple[Optimizer, LambdaLR]:
    """Return the optimiser, and its schedule, which must be advanced after every step."""
    groups = parameter_groups(module, options.weight_decay, options.lr, options.lr_factors)
    optimizer = OPTIMIZERS[options.optimizer](groups, lr=options.lr)
    return optimizer, LambdaLR(optimizer, _schedule(options, total_steps))


def _schedule(options: TrainingOptions, total_steps: int) -> Callable[[int], float]:
    """Return the factor of the learning rate in each step."""
    if options.lr_schedule in LR_SCHEDULES:
        schedule = LR_SCHEDULES[options.lr_schedule]
        return lambda step: schedule(step, total_steps)
    rising = WARM_UP_SCHEDULES[options.lr_schedule]
    warm_up = options.warm_up * (total_steps if options.warm_up < 1 else 1)
    return lambda step: rising(step, total_steps, warm_up)


def _after_flat(step: int, total_steps: int) -> float:
    """Return which share of the steps after the first 70 % is done, as weaver counts them."""
    flat = total_steps * _FLAT_SHARE - 1
    return max(0.0, (step - flat) / (total_steps - flat))


def _named_without_decay(part: nn.Module) -> list[nn.Parameter]:
    names: Callable[[], Iterable[str]] | None = getattr(part, "no_weight_decay", None)
    return [] if names is None else [part.get_parameter(name) for name in names()]
