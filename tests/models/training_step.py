"""One step of training, for tests that compare two forms of a network."""

from typing import Any

from torch import Tensor

from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs

# Options of weaver's blocks: what is drawn at random cannot be compared.
NO_DROPOUT: dict[str, Any] = {"dropout": 0, "attn_dropout": 0, "activation_dropout": 0, "drop_path_rate": 0.0}


def trained(tagger: Tagger, jets: JetInputs) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Return the answers of a step of training, all gradients, and all buffers after it."""
    logits_ENK = tagger.train()(jets)
    logits_ENK.square().mean().backward()
    gradients = {name: value.grad for name, value in tagger.named_parameters() if value.grad is not None}
    return logits_ENK.detach(), gradients, dict(tagger.named_buffers())
