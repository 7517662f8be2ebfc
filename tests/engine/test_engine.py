"""The engine against the same policy applied to the logits of all exits."""

from typing import Any

import pytest
import torch
from torch import Tensor

from phaze_ee.engine import run as chunk_run
from phaze_ee.engine.engine import Engine
from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ThresholdPolicy, exit_index, temper
from phaze_ee.exits.scores import ExitScore, make_score
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.compiler import needs_compiler
from tests.exits.test_scores import SCORES
from tests.jets import random_jets, small_tagger

COUNTS = [int(count) for count in torch.randint(0, 30, (70,), generator=torch.Generator().manual_seed(1))]
EXACT: dict[str, Any] = {"rtol": 0.0, "atol": 1e-11}


@pytest.fixture
def jets() -> JetInputs:
    return random_jets(COUNTS, length=32)


@pytest.fixture(params=["padded", "packed", pytest.param("native", marks=needs_compiler)])
def tagger(request: pytest.FixtureRequest) -> Tagger:
    tagger = small_tagger()
    return tagger if request.param == "padded" else getattr(tagger, request.param)()


@pytest.fixture(params=["dropping always", "dropping where it pays"])
def _dropping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "dropping always":
        monkeypatch.setattr(chunk_run, "_SELECT_MACS", -1)
        monkeypatch.setattr(chunk_run, "_SELECT_MACS_PER_PARTICLE", 0)


def engine(tagger: Tagger, policy: ThresholdPolicy | None = None, **options: Any) -> Engine:
    """An engine that runs the form of the network it is given."""
    return Engine(tagger, policy, backend="given", **options)


def simulate(tagger: Tagger, policy: ThresholdPolicy, jets: JetInputs) -> tuple[Tensor, Tensor]:
    """Logits and exit index of each jet, from the logits of all exits."""
    with torch.no_grad():
        logits_ENK = temper(tagger(jets), policy.temperatures)
    exit_index_N = exit_index(policy, logits_ENK)
    return logits_ENK[exit_index_N, torch.arange(len(jets))], exit_index_N


def middle_policy(tagger: Tagger, score: str | ExitScore, jets: JetInputs) -> ThresholdPolicy:
    """About half of the jets that are left leave at each exit."""
    score = make_score(score) if isinstance(score, str) else score
    temperatures = [2.0, 0.5, 1.0, 3.0]
    with torch.no_grad():
        logits_ENK = temper(tagger(jets), temperatures)
    scores = [score(logits_ENK[: index + 1]) for index in range(len(logits_ENK) - 1)]
    # Where all jets score the same (patience at the first exit), none leaves.
    thresholds = [torch.inf if score_N.min() == score_N.max() else float(score_N.quantile(0.5)) for score_N in scores]
    return ThresholdPolicy(score, thresholds, temperatures)


@pytest.mark.usefixtures("_dropping")
@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("threads", [1, 2])
def test_dynamic_equals_offline_simulation(tagger: Tagger, jets: JetInputs, score: ExitScore, threads: int) -> None:
    policy = middle_policy(tagger, score, jets)
    logits_NK, exit_index_N = simulate(tagger, policy, jets)
    assert len(set(exit_index_N.tolist())) > 1 or score.name in ("fixed", "patience")
    result = engine(tagger, policy, threads=threads)(jets)
    torch.testing.assert_close(result.logits_NK, logits_NK, **EXACT)
    assert torch.equal(result.exit_index_N, exit_index_N)


@pytest.mark.usefixtures("_dropping")
@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_exits_that_are_not_offered_change_nothing(tagger: Tagger, jets: JetInputs, score: ExitScore) -> None:
    thresholds = [torch.inf, *middle_policy(tagger, score, jets).thresholds[1:]]
    policy = ThresholdPolicy(score, thresholds)
    logits_NK, exit_index_N = simulate(tagger, policy, jets)
    result = engine(tagger, policy)(jets)
    torch.testing.assert_close(result.logits_NK, logits_NK, **EXACT)
    assert torch.equal(result.exit_index_N, exit_index_N)


def test_macs_are_those_of_the_exit_where_jets_are_dropped_at_once(
    tagger: Tagger, jets: JetInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_run, "_SELECT_MACS", -1)
    monkeypatch.setattr(chunk_run, "_SELECT_MACS_PER_PARTICLE", 0)
    result = engine(tagger, middle_policy(tagger, "confidence", jets))(jets)
    macs_EN = tagger.exit_macs(jets.particle_count_N)
    assert torch.equal(result.macs_N, macs_EN[result.exit_index_N, torch.arange(len(jets))])


def test_jets_that_are_not_dropped_cost_what_was_computed_for_them(
    tagger: Tagger, jets: JetInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_run, "_SELECT_MACS", 10**15)
    result = engine(tagger, middle_policy(tagger, "confidence", jets), chunk_size=len(jets))(jets)
    macs_EN = tagger.exit_macs(jets.particle_count_N)
    assert (result.macs_N >= macs_EN[result.exit_index_N, torch.arange(len(jets))]).all()
    assert (result.macs_N[result.exit_index_N == 0] > macs_EN[0][result.exit_index_N == 0]).any()


def test_without_policy_every_jet_gets_the_full_model(tagger: Tagger, jets: JetInputs) -> None:
    with torch.no_grad():
        expected = tagger(jets)[-1]
    result = engine(tagger)(jets)
    torch.testing.assert_close(result.logits_NK, expected, **EXACT)
    assert result.exit_index_N.tolist() == [3] * len(jets)
    assert torch.equal(result.macs_N, tagger.exit_macs(jets.particle_count_N, exits=())[-1])


def test_without_policy_no_exit_head_is_evaluated(jets: JetInputs) -> None:
    tagger = small_tagger().packed()
    tagger.heads = torch.nn.ModuleList([torch.nn.Identity() for _ in tagger.heads])
    calls: list[object] = []
    for head in tagger.heads:
        head.register_forward_hook(lambda *arguments: calls.append(arguments))
        head.macs = lambda count_N: count_N  # type: ignore[assignment]
    engine(tagger)(jets)
    assert calls == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_do_not_depend_on_threads(dtype: torch.dtype, jets: JetInputs) -> None:
    tagger = small_tagger().packed().to(dtype)
    jets = jets.map(lambda tensor: tensor.to(dtype))
    policy = middle_policy(tagger, "margin", jets)
    one, two = (engine(tagger, policy, threads=threads)(jets) for threads in (1, 2))
    assert torch.equal(one.logits_NK, two.logits_NK)
    assert torch.equal(one.exit_index_N, two.exit_index_N)
    assert torch.equal(one.macs_N, two.macs_N)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("jet_count", [0, 1, 2, 70])
def test_the_callers_threads_are_restored(jets: JetInputs, threads: int, jet_count: int) -> None:
    before = torch.get_num_threads()
    result = Engine(small_tagger().packed(), threads=threads)(jets.select(torch.arange(jet_count)))
    assert torch.get_num_threads() == before
    assert result.logits_NK.shape == (jet_count, 4)
    assert result.exit_index_N.shape == result.macs_N.shape == (jet_count,)


def test_ragged_and_padded_jets_give_the_same(jets: JetInputs) -> None:
    tagger = small_tagger().packed()
    policy = middle_policy(tagger, "entropy", jets)
    padded, ragged = engine(tagger, policy)(jets), engine(tagger, policy)(jets.ragged())
    assert torch.equal(padded.logits_NK, ragged.logits_NK)
    assert torch.equal(padded.macs_N, ragged.macs_N)


def test_chunks_do_not_change_answers(jets: JetInputs) -> None:
    tagger = small_tagger().packed()
    policy = middle_policy(tagger, "confidence", jets)
    results = [engine(tagger, policy, chunk_size=size)(jets) for size in (1, 5, 16)]
    for result in results[1:]:
        torch.testing.assert_close(result.logits_NK, results[0].logits_NK, **EXACT)
        assert torch.equal(result.exit_index_N, results[0].exit_index_N)


def test_mistakes_are_told(jets: JetInputs) -> None:
    tagger = small_tagger()
    with pytest.raises(UsageError, match="1 thresholds, the tagger 3 exits"):
        engine(tagger, ThresholdPolicy("margin", [0.5]))
    with pytest.raises(UsageError, match="threads = 0"):
        engine(tagger, threads=0)
    with pytest.raises(UsageError, match="training mode"):
        engine(tagger.train())(jets)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown backend 'cuda'; choose from auto, given, native"):
        Engine(small_tagger(), backend="cuda")  # type: ignore[arg-type]


@needs_compiler
def test_the_native_backend_agrees_with_torch(jets: JetInputs) -> None:
    tagger = small_tagger()
    policy = middle_policy(tagger.packed(), "confidence", jets)
    expected = Engine(tagger.packed(), policy)(jets)
    for threads in (1, 2):
        result = Engine(tagger, policy, threads=threads, backend="native")(jets)
        torch.testing.assert_close(result.logits_NK, expected.logits_NK, **EXACT)
        assert torch.equal(result.exit_index_N, expected.exit_index_N)
        assert torch.equal(result.macs_N, expected.macs_N)


def test_the_form_without_padding_runs_by_default(jets: JetInputs) -> None:
    automatic, packed = Engine(small_tagger())(jets), engine(small_tagger().packed())(jets)
    assert torch.equal(automatic.macs_N, packed.macs_N)
    assert torch.equal(automatic.logits_NK, packed.logits_NK)


@pytest.mark.parametrize("threads", [1, 2])
def test_every_exit_answers_in_input_order(tagger: Tagger, jets: JetInputs, threads: int) -> None:
    with torch.no_grad():
        expected_ENK = tagger(jets)
    torch.testing.assert_close(engine(tagger, threads=threads).every_exit(jets), expected_ENK, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("_dropping")
def test_the_answers_on_the_way_are_kept(tagger: Tagger, jets: JetInputs) -> None:
    policy = middle_policy(tagger, "confidence", jets)
    result = engine(tagger, policy)(jets)
    with torch.no_grad():
        expected_NEK = (tagger(jets) / torch.tensor(policy.temperatures).view(-1, 1, 1)).transpose(0, 1)
    visited_NE = torch.arange(4) <= result.exit_index_N[:, None]
    expected_NEK[~visited_NE] = torch.nan
    torch.testing.assert_close(result.visited_NEK, expected_NEK, equal_nan=True, **EXACT)
    last_NK = result.visited_NEK[torch.arange(len(jets)), result.exit_index_N]
    assert torch.equal(last_NK, result.logits_NK)
