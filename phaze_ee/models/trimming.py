"""weaver's way of cutting padding in training, for all networks that have its SequenceTrimmer."""

from typing import Any

import torch

from phaze_ee.models.padded import fit_length
from phaze_ee.types import JetInputs


def trim(inputs: JetInputs, trimmer: Any, *, training: bool, minimum_length: int) -> JetInputs:
    """Cut padding: in evaluation to the longest jet, in training by weaver's rule, which drops particles at random.

    Args:
        inputs: padded jets.
        trimmer: the network's SequenceTrimmer, whose rule and random numbers are used in training. Its first five calls
            leave the jets as they are.
        training: which of the two.
        minimum_length: the slots P that are left at least.
    """
    if training:
        inputs = _trimmed_at_random(inputs, trimmer)
    return inputs if training and inputs.mask.shape[-1] >= minimum_length else fit_length(inputs, minimum_length)


def _trimmed_at_random(inputs: JetInputs, trimmer: Any) -> JetInputs:
    vectors = [] if inputs.vectors is None else [inputs.vectors]
    tensors = [inputs.points, inputs.features, *vectors]
    together, _, valid, _ = trimmer(torch.cat(tensors, dim=1), mask=inputs.mask)
    points, features, *rest = torch.split(together, [tensor.shape[1] for tensor in tensors], dim=1)
    return JetInputs(points, features, rest[0] if rest else None, valid)
