"""Which jets go through a tagger together."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phaze_ee.engine import dealing as chunks
from phaze_ee.engine.dealing import deal
from phaze_ee.engine.engine import Engine
from phaze_ee.exits.policies import ThresholdPolicy, exit_index
from phaze_ee.exits.scores import make_score
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.tagger import Tagger
from tests.jets import random_jets, small_tagger
from tests.models.test_particle_transformer import weaver_part

EXACT: dict[str, Any] = {"rtol": 0.0, "atol": 1e-11}
PADDED = Tagger(ParticleTransformer(weaver_part()), [0, 1]).double().eval()
PACKED = small_tagger().packed()


@pytest.mark.parametrize(("jets", "expected"), [(1, 1), (2, 2), (255, 2), (384, 3), (512, 4), (2000, 4), (2100, 5)])
def test_small_batches_make_few_chunks(jets: int, expected: int) -> None:
    assert len(deal(PACKED, torch.full((jets,), 30), torch.arange(jets), 512)) == expected


@pytest.fixture
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = int(PADDED.exit_macs(torch.tensor([20]))[-1])
    monkeypatch.setattr(chunks, "_CHUNK_MACS", 8 * cost)
    monkeypatch.setattr(chunks, "_CALLS_MACS", cost)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=40),
    st.integers(1, 12),
    st.sampled_from([PADDED, PACKED]),
)
def test_every_jet_is_in_one_chunk_and_units_stay_together(
    jets: list[tuple[int, int]], chunk_size: int, tagger: Tagger
) -> None:
    count_N = torch.tensor([count for count, _ in jets], dtype=torch.long)
    unit_N = torch.unique(torch.tensor([unit for _, unit in jets], dtype=torch.long), return_inverse=True)[1]
    dealt = deal(tagger, count_N, unit_N, chunk_size)
    assert sorted(torch.cat(dealt).tolist()) == list(range(len(jets)))
    assert len(dealt) > 1 or torch.equal(dealt[0], torch.arange(len(jets)))  # the engine selects nothing then
    units = [set(unit_N[chunk].tolist()) for chunk in dealt]
    assert sum(map(len, units)) == len(set(unit_N.tolist()))
    if tagger is PADDED:
        assert all(len(chunk) <= chunk_size or len(unit) == 1 for chunk, unit in zip(dealt, units, strict=True))


@pytest.mark.usefixtures("_small_chunks")
def test_buckets_are_consecutive_in_length_and_waste_little() -> None:
    count_N = torch.randint(1, 60, (300,), generator=torch.Generator().manual_seed(0))
    dealt = deal(PADDED, count_N, torch.arange(300), 512)
    lengths = [(int(count_N[chunk].min()), int(count_N[chunk].max())) for chunk in dealt]
    assert all(later[1] <= earlier[0] for earlier, later in pairwise(lengths))
    macs_N = PADDED.exit_macs(count_N)[-1]
    padded = [len(chunk) * int(macs_N[chunk].max()) for chunk in dealt]
    assert max(padded) <= chunks._CHUNK_MACS
    assert sum(padded) < 1.15 * int(macs_N.sum())
    assert max(map(len, dealt)) > 4 * min(map(len, dealt))  # equal in cost, not in number
    one_padding = 300 * int(macs_N.max())
    assert sum(padded) < 0.5 * one_padding


@pytest.mark.usefixtures("_small_chunks")
@pytest.mark.parametrize("threads", [1, 3])
def test_the_engine_gives_what_the_policy_says_of_all_exits(threads: int) -> None:
    jets = random_jets(torch.randint(0, 40, (50,), generator=torch.Generator().manual_seed(1)).tolist())
    with torch.no_grad():
        logits_ENK = PADDED(jets)
    score = make_score("confidence")
    policy = ThresholdPolicy(score, [float(score(logits_ENK[: index + 1]).median()) for index in range(2)])
    expected_N = exit_index(policy, logits_ENK)
    result = Engine(PADDED, policy, threads=threads)(jets)
    assert torch.equal(result.exit_index_N, expected_N)
    assert set(expected_N.tolist()) == {0, 1, 2}
    torch.testing.assert_close(result.logits_NK, logits_ENK[expected_N, torch.arange(50)], **EXACT)
    torch.testing.assert_close(Engine(PADDED, threads=threads).every_exit(jets.ragged()), logits_ENK, **EXACT)
    assert torch.equal(result.logits_NK, Engine(PADDED, policy, threads=2)(jets).logits_NK)
