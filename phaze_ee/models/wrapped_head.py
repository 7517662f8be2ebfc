"""Networks whose head is in the module around them, as in the network files with which weaver fine-tunes."""

import copy
from typing import Any

from torch import nn

from phaze_ee.models.weaver import is_head, is_hidden


def with_head(model: nn.Module, module: Any) -> Any:
    """Return weaver's module with the head that it lacks and the module around it has; the weights are shared.

    Args:
        model: what ``get_model`` returned.
        module: weaver's module in it; returned as it is if it has a head, or if there is none around it that is known:
            Linear, ReLU or GELU, Dropout, and so on, and a Linear at the end.
    """
    if not hasattr(module, "fc") or not _lacks_classes(module.fc):
        return module
    outer = [child for child in model.children() if module not in set(child.modules())]
    heads = [child for child in outer if any(True for _ in child.parameters())]
    layers = _layers(heads[0]) if len(heads) == 1 else []
    if not layers:
        return module
    completed = copy.copy(module)  # the model still calls its own, which stays as it is
    completed._modules = dict(module._modules)
    own = module.fc if isinstance(module.fc, nn.Sequential) else ()
    completed.fc = nn.Sequential(*own, *layers)
    return completed


def _lacks_classes(head: object) -> bool:
    if isinstance(head, nn.Sequential):
        return all(map(_is_hidden, head))
    return head is None or isinstance(head, nn.Identity)


def _layers(head: nn.Module) -> list[nn.Module]:
    """Return the layers of a head as weaver has them: hidden ones of three modules, then a Linear; none if others."""
    *hidden, last = head if isinstance(head, nn.Sequential) else [head]
    if not all(isinstance(layer, nn.Sequential) for layer in hidden):
        hidden = [nn.Sequential(*hidden[start : start + 3]) for start in range(0, len(hidden), 3)]
    layers = [*hidden, last]
    return layers if is_head(nn.Sequential(*layers), nn.ReLU, nn.GELU) else []


def _is_hidden(layer: nn.Module) -> bool:
    return is_hidden(layer, nn.ReLU, nn.GELU)
