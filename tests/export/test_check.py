"""The check of a written file finds what is wrong with it, and knows rounding from errors."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch

from phaze_ee.engine.engine import Engine
from phaze_ee.errors import RunError
from phaze_ee.exits.policies import ThresholdPolicy, temper
from phaze_ee.export.check import Checked, Comparison, odd_jets
from phaze_ee.export.model import FileForm, write_model
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.export.files import NAMES, jets, particle_net, policy_for
from tests.jets import random_jets

INPUTS = jets(torch.float32)


def content(policy: ThresholdPolicy | None, tagger: Tagger) -> bytes:
    dtype = next(tagger.parameters()).dtype
    written: bytes = write_model(tagger, policy, FileForm(NAMES, dtype=dtype)).SerializeToString()
    return written


@pytest.fixture
def tagger() -> Tagger:
    return particle_net("linear").float()


def check(tagger: Tagger, policy: ThresholdPolicy | None, file: bytes, write: Callable[[Tagger], bytes]) -> Checked:
    return Comparison(tagger, policy, write, NAMES, alone=False).check(file, [INPUTS, INPUTS.select(torch.arange(3))])


def test_a_right_file_passes(tagger: Tagger) -> None:
    policy = policy_for(tagger, "confidence", INPUTS)
    result = check(tagger, policy, content(policy, tagger), partial(content, policy))
    assert (result.jets, result.by_rounding) == (len(INPUTS) + 3, 0)
    assert 0 < result.difference < 1e-6


def test_a_file_with_other_weights_is_found(tagger: Tagger) -> None:
    def write(right: Tagger) -> bytes:
        other = copy.deepcopy(right)
        with torch.no_grad():
            other.heads[0].linear.bias[0] += 1e-3  # type: ignore[index, operator, union-attr]
        return content(policy, other)

    policy = policy_for(tagger, "confidence", INPUTS)
    wrong = write(particle_net("linear").float())
    with pytest.raises(RunError, match=r"does not answer as the tagger: \d+ jets differ .* nothing was written"):
        check(tagger, policy, wrong, write)


def test_a_file_with_other_thresholds_is_found(tagger: Tagger) -> None:
    policy = policy_for(tagger, "confidence", INPUTS)
    other = ThresholdPolicy(policy.score, [0.99, *policy.thresholds[1:]], policy.temperatures)
    with pytest.raises(RunError, match="does not answer as the tagger"):
        check(tagger, policy, content(other, tagger), partial(content, other))


def test_a_jet_at_a_threshold_may_leave_or_stay(tagger: Tagger) -> None:
    """In single precision one jet is on the other side; in double precision it is not."""
    policy = policy_for(tagger, "confidence", INPUTS)
    score_N = policy.score(temper(Engine(tagger).every_exit(INPUTS), policy.temperatures)[:1])
    at_score, above = (
        ThresholdPolicy(policy.score, [threshold, *policy.thresholds[1:]], policy.temperatures)
        for threshold in (float(score_N[5]), float(score_N[5]) + 1e-6)  # more than the file's sums are rounded
    )
    assert check(tagger, at_score, content(above, tagger), partial(content, at_score)).by_rounding == 1


def test_more_rounding_than_there_can_be_is_an_error(tagger: Tagger) -> None:
    """A file that is wrong in single precision alone does not pass because it is right in double precision."""
    shifted = particle_net("linear").float()
    with torch.no_grad():
        shifted.backbone.mod.fc[-1].bias[0] += 1e-3  # type: ignore[union-attr, index]
    with pytest.raises(RunError, match=r"of 17 jets get other answers from the file than from the tagger in single"):
        check(tagger, None, content(None, shifted), partial(content, None))


def test_odd_jets_are_odd() -> None:
    pool = random_jets((30, 40), dtype=torch.float32).ragged()
    batches = list(odd_jets(pool, neighbours=(4,)))
    counts = {int(count) for batch in batches for count in batch.particle_count_N}
    assert {0, 1, 4, 5, 128, 300} <= counts
    assert any(batch.features.isnan().any() for batch in batches)
    assert any(_has_holes(batch) for batch in batches)
    long_VC = next(batch.select(batch.particle_count_N == 300) for batch in batches).ragged().features_VC
    assert len(set(map(tuple, long_VC.tolist()))) < len(long_VC)
    assert any(batch.mask.shape[-1] == 0 for batch in batches)


def _has_holes(batch: JetInputs) -> bool:
    valid_NP = batch.valid_N1P[:, 0]
    return bool((valid_NP[:, 1:] & ~valid_NP[:, :-1]).any())
