"""Networks that predict targets beside the classes: every backbone with every head, the engine and checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch

from phaze_ee.engine.audit import Audit
from phaze_ee.engine.engine import Engine
from phaze_ee.errors import CheckpointError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.models.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from phaze_ee.models.heads import EXIT_HEADS
from phaze_ee.models.tagger import Tagger
from tests.jets import CLASSES
from tests.models.test_globals import COUNTS, NAMES, jets_for, plain

CENTER, SPREAD = 80.0, 25.0
TARGETS = 1  # the last of the outputs


def tagger_for(name: str, head: str = "linear", *, targets: int = TARGETS, link: str = "independent") -> Tagger:
    backbone = plain(name)
    torch.manual_seed(2)
    tagger = Tagger(backbone, ("input", 0, 1), head, targets=targets, link=link).double().eval()
    if tagger.targets is not None:
        tagger.targets.set_scales([CENTER] * targets, [SPREAD] * targets)
    return tagger


def jets_of(name: str) -> Any:
    return jets_for(name)[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("head", EXIT_HEADS)
def test_the_last_outputs_are_the_targets_in_their_own_units(name: str, head: str) -> None:
    jets, tagger, plain_tagger = jets_of(name), tagger_for(name, head), tagger_for(name, head, targets=0)
    plain_tagger.load_state_dict({key: tensor for key, tensor in tagger.state_dict().items() if "targets." not in key})
    with torch.no_grad():
        output_ENO, (logits_ENK, value_ENR) = plain_tagger(jets), tagger.every_answer(jets)
    assert (tagger.class_count, tagger.target_count) == (CLASSES - TARGETS, TARGETS)
    assert torch.equal(logits_ENK, output_ENO[:, :, :-TARGETS])
    torch.testing.assert_close(value_ENR, CENTER + SPREAD * output_ENO[:, :, -TARGETS:], rtol=1e-12, atol=0)


@pytest.mark.parametrize("link", ["independent", "cascade", "boosted"])
@pytest.mark.parametrize("audit", [None, Audit(0.5)])
def test_the_engine_gives_the_value_of_the_exit_taken(link: str, audit: Audit | None) -> None:
    jets, tagger = jets_of("one"), tagger_for("one", link=link)
    with torch.no_grad():
        logits_ENK, value_ENR = tagger.every_answer(jets)
    middle = [float(logits_NK.softmax(dim=1).amax(dim=1).median()) for logits_NK in logits_ENK[:-1]]
    draw_N = torch.linspace(0, 0.99, len(COUNTS))
    for chunk in (2, 512):
        engine = Engine(tagger, ThresholdPolicy("confidence", middle), chunk_size=chunk, audit=audit)
        result = engine(jets.ragged(), draw_N=draw_N).cpu()
        assert len(set(result.exit_index_N.tolist())) > 1, "jets leave at several exits"
        own_NR = value_ENR[result.exit_index_N, torch.arange(len(COUNTS))]
        torch.testing.assert_close(result.value_NR, own_NR, rtol=0, atol=1e-9)
    torch.testing.assert_close(Engine(tagger)(jets).value_NR, value_ENR[-1], rtol=0, atol=1e-9)
    torch.testing.assert_close(Engine(tagger).every_answer(jets.ragged())[1], value_ENR, rtol=0, atol=1e-9)


def test_a_link_acts_on_the_classes_alone() -> None:
    jets = jets_of("one")
    alone, linked = tagger_for("one"), tagger_for("one", link="cascade")
    linked.load_state_dict(alone.state_dict(), strict=False)
    with torch.no_grad():
        own, other = alone.every_answer(jets), linked.every_answer(jets)
    assert not torch.equal(own[0], other[0])
    assert torch.equal(own[1], other[1])


def test_a_tagger_without_targets_has_no_values(tmp_path: Path) -> None:
    tagger = tagger_for("one", targets=0)
    assert not any("targets" in key for key in tagger.state_dict())
    result = Engine(tagger, ThresholdPolicy("confidence", [0.5] * 3))(jets_of("one"))
    assert result.value_NR.shape == (len(COUNTS), 0)
    save_checkpoint(tmp_path / "model.pt", Checkpoint(tagger, {}, {}, "", 0, {}))
    assert "targets" not in torch.load(tmp_path / "model.pt", weights_only=True)


def test_checkpoints_keep_targets_and_their_scales(tmp_path: Path) -> None:
    path, jets, tagger = tmp_path / "model.pt", jets_of("one"), tagger_for("one")
    save_checkpoint(path, Checkpoint(tagger, {}, {}, "", 0, {}))
    loaded = load_checkpoint(path).tagger.double()
    with torch.no_grad():
        torch.testing.assert_close(loaded.every_answer(jets), tagger.every_answer(jets), rtol=1e-6, atol=1e-6)

    other_exits = Tagger(plain("one"), (0,), targets=TARGETS)
    load_weights(other_exits, path)
    assert other_exits.targets is not None
    assert other_exits.targets.center_R.tolist() == [CENTER]
    assert other_exits.targets.spread_R.tolist() == [SPREAD]


def test_weights_of_other_targets_are_refused(tmp_path: Path) -> None:
    ours, weavers = tmp_path / "model.pt", tmp_path / "weaver.pt"
    save_checkpoint(ours, Checkpoint(tagger_for("one", targets=0), {}, {}, "", 0, {}))
    torch.save(plain("one").state_dict(), weavers)
    with pytest.raises(CheckpointError, match=r"model.pt has no targets, and labels.targets of the data_config has 1"):
        load_weights(tagger_for("one"), ours)
    with pytest.raises(CheckpointError, match=r"weaver.pt is weaver's and says nothing of targets, .* has 1"):
        load_weights(tagger_for("one"), weavers)
