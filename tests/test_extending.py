"""What docs/EXTENDING.md shows must work: its code is executed, registered for one test, and used."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from phaze_ee.config.load import load_options
from phaze_ee.config.options import ExitOptions, TrainingOptions
from phaze_ee.engine.engine import Engine
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import EXIT_SCORES, make_score
from phaze_ee.models.build import BACKBONES
from phaze_ee.models.heads import EXIT_HEADS, HeadShape
from phaze_ee.models.links import EXIT_LINKS
from phaze_ee.models.particle_flow_network import ParticleFlowNetwork
from phaze_ee.models.tagger import Tagger
from phaze_ee.training.losses import EXIT_LOSSES
from phaze_ee.training.module import TaggerModule
from tests.contracts.backbone import LENGTHS, BackboneContract
from tests.jets import CHANNELS, CLASSES, labelled_batch, random_jets

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs" / "EXTENDING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.DOTALL)
# Names that an example may use without an import, as in the module where its class belongs.
HOMES = (
    "typing",
    "collections.abc",
    "jaxtyping",
    "phaze_ee.models.heads",
    "phaze_ee.models.links",
    "phaze_ee.training.losses",
    "phaze_ee.exits.scores",
    "phaze_ee.models.build",
    "phaze_ee.models.particle_flow_network",
    "tests.contracts.backbone",
)


@pytest.fixture(autouse=True)
def _registries() -> Iterator[None]:
    """Registries are as they were when a test has ended."""
    with (
        mock.patch.dict(BACKBONES),
        mock.patch.dict(EXIT_HEADS),
        mock.patch.dict(EXIT_LINKS),
        mock.patch.dict(EXIT_LOSSES),
        mock.patch.dict(EXIT_SCORES),
    ):
        yield


def shown(text: str) -> str:
    """Return the one block of the document that contains ``text``."""
    (block,) = (block for block in BLOCKS if text in block)
    return str(block)


def executed(text: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    for home in HOMES:
        exec(f"from {home} import *", namespace)
    exec(compile(shown(text), "docs/EXTENDING.md", "exec"), namespace)
    return namespace


def small_tagger(exit_head: str = "linear", link: str = "independent") -> Tagger:
    torch.manual_seed(0)
    backbone = ParticleFlowNetwork(CHANNELS, CLASSES, particle_dims=(8, 9, 12), jet_dims=(10,))
    return Tagger(backbone, ["input", 0, 2], exit_head, head_shape=HeadShape(width=16), link=link)


def train_one_step(tagger: Tagger, loss: str = "target_flow") -> None:
    options = ExitOptions.model_construct(
        **{
            **ExitOptions(beta_max=[1.0], zero_epochs=0, beta_schedule="switch").model_dump(),
            "exit_loss_strategy": loss,
        }
    )
    module = TaggerModule(tagger, options, TrainingOptions(), total_steps=10)
    before = {name: value.clone() for name, value in tagger.heads.named_parameters()}
    optimizer = torch.optim.SGD(tagger.parameters(), lr=0.1)
    total: Any = module.terms(labelled_batch(12)).total
    total.backward()
    optimizer.step()
    assert all(not value.equal(before[name]) for name, value in tagger.heads.named_parameters())


def test_the_backbone_shown_is_the_packages() -> None:
    block = shown("class ParticleFlowNetwork(Backbone")
    assert block == (ROOT / "phaze_ee" / "models" / "particle_flow_network.py").read_text(encoding="utf-8")
    assert len(block.splitlines()) < 60
    assert (
        len(
            executed("class ParticleFlowNetwork(Backbone")["ParticleFlowNetwork"](
                7, 4, (8, 9, 12), (10,)
            ).stage_channels
        )
        == 3
    )


def test_the_network_file_shown_is_the_packages() -> None:
    assert shown("def get_model(") == (ROOT / "network_configs" / "PFN_JetClass.py").read_text(encoding="utf-8")


def test_the_registry_line_of_a_backbone() -> None:
    del BACKBONES["PFN"]
    executed("BACKBONES[")
    assert BACKBONES["PFN"] is ParticleFlowNetwork


def test_the_contract_as_it_is_shown() -> None:
    contract: BackboneContract = executed("(BackboneContract)")["TestParticleFlowNetwork"]()
    for counts in LENGTHS.values():
        contract.test_full_model_equals_the_reference(counts)
    plain = [name for name in dir(contract) if name.startswith("test_") and "reference" not in name]
    assert len(plain) > 8
    for name in plain:
        getattr(contract, name)()


def test_the_configuration_of_a_network_file(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(shown('c.network_config = "my_network.py"'), encoding="utf-8")
    assert load_options(tmp_path / "config.py").network_options == {"num_layers": 4}


def test_the_head_answers_and_learns() -> None:
    executed("class CustomExitHead(ExitHead)")
    tagger = small_tagger("custom")
    assert tagger(random_jets((3, 0, 12), dtype=torch.float32)).isfinite().all()
    train_one_step(tagger)


def test_the_link_averages() -> None:
    executed("class AverageLink(ExitLink)")
    tagger, jets = small_tagger(link="average"), random_jets((3, 5, 12), dtype=torch.float32)
    independent = Tagger(tagger.backbone, tagger.exit_stages, tagger.head_names, tagger.heads)(jets)
    torch.testing.assert_close(tagger(jets)[:3], independent[:3].cumsum(dim=0) / torch.tensor([1, 2, 3]).view(3, 1, 1))
    torch.testing.assert_close(tagger(jets)[3], independent[3])
    train_one_step(tagger)


def test_the_loss_trains() -> None:
    executed("class FocalLoss")
    loss = EXIT_LOSSES["focal_flow"](ExitOptions())
    value_E = loss(torch.tensor([[[0.0, 0.0]], [[9.0, 0.0]]]), torch.tensor([0]))
    torch.testing.assert_close(value_E, torch.tensor([0.25 * torch.tensor(2.0).log()]))
    train_one_step(small_tagger(), "focal_flow")


def test_the_score_stops_jets() -> None:
    executed("class LargestLogit(ExitScore)")
    policy = ThresholdPolicy(make_score("largest_logit"), (0.2, 0.2, 0.2))
    tagger, jets = small_tagger().eval(), random_jets((3, 5, 12, 9), dtype=torch.float32)
    result = Engine(tagger, policy)(jets)
    expected_N = (tagger(jets)[:3].amax(dim=-1) >= 0.2).long()
    first_N = torch.cat([expected_N, torch.ones_like(expected_N[:1])]).argmax(dim=0)
    assert result.exit_index_N.equal(first_N)
