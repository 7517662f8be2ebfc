"""Taggers, policies and jets for files, and what a file answers."""

from collections.abc import Sequence
from typing import Any

import onnxruntime
import torch
from torch import Tensor

from phaze_ee.engine.engine import Engine
from phaze_ee.exits.policies import ThresholdPolicy, temper
from phaze_ee.exits.scores import ExitScore, FixedExit, Gate, Window, make_score
from phaze_ee.export.check import FileSession
from phaze_ee.export.model import FileForm, write_model
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.tagger import Tagger
from phaze_ee.names import ExitStage
from phaze_ee.types import JetInputs
from tests.jets import random_jets, small_weaver_network

NAMES = {"points": "pf_points", "features": "pf_features", "vectors": "pf_vectors", "mask": "pf_mask"}
TEMPERATURES = (1.3, 0.8, 1.0, 1.1)
SV_NAMES = {"sv": {kind: f"sv_{kind}" for kind in NAMES}}
# No particle, one, k and k + 1 for k = 4, and more slots than any jet uses.
COUNTS = (0, 1, 2, 4, 5, 20, 0, 17, 9, 40, 3, 12, 6, 28)


def jets(dtype: torch.dtype = torch.float64) -> JetInputs:
    """Jets of very different lengths."""
    return random_jets(COUNTS, length=43, dtype=dtype)


def with_random_exits(tagger: Tagger) -> Tagger:
    """Give the exits weights with which their answers differ, in double precision."""
    torch.manual_seed(2)
    for parameter in [*tagger.heads.parameters(), *tagger.link.parameters()]:
        torch.nn.init.normal_(parameter, std=0.5)
    return tagger.double().eval()


def particle_net(
    head: str = "deep_sets", link: str = "independent", stages: Sequence[ExitStage] = ("input", 0, 1), **changes: Any
) -> Tagger:
    """A small ParticleNet with exits."""
    return with_random_exits(Tagger(ParticleNet(small_weaver_network(**changes)), stages, head, link=link))


def score_of(name: str, exits: int) -> ExitScore:
    """A score by its name, with parameters if it needs some."""
    torch.manual_seed(3)
    scores: dict[str, ExitScore] = {
        "gate": Gate(weight_EF=torch.randn(exits, 4).tolist(), bias_E=[0.1] * exits),
        "window": Window(signal=0, background=1, cut=0.3, accept=0.5),
        "fixed": FixedExit(exit=1),
    }
    return scores[name] if name in scores else make_score(name)


def policy_for(tagger: Tagger, score: str | ExitScore, inputs: JetInputs) -> ThresholdPolicy:
    """A policy with which about a third of the jets that reach an exit leave there, and none sits on a threshold."""
    exits = len(tagger.exit_stages)
    chosen = score_of(score, exits) if isinstance(score, str) else score
    temperatures = TEMPERATURES[: exits + 1]
    logits_ENK = temper(Engine(tagger).every_exit(inputs), temperatures)
    thresholds = [_between(chosen(logits_ENK[: index + 1])) for index in range(exits)]
    return ThresholdPolicy(chosen, thresholds, temperatures)


def _between(score_N: Tensor) -> float:
    values: list[float] = sorted(set(score_N.tolist()))
    place = len(values) * 2 // 3
    return (values[place - 1] + values[place]) / 2 if place else values[0]


def answers(tagger: Tagger, policy: ThresholdPolicy | None, inputs: JetInputs, **form: Any) -> tuple[Tensor, Tensor]:
    """Return the probabilities and the exits of a file, in the type of the jets."""
    model = write_model(tagger, policy, FileForm(NAMES, dtype=inputs.features.dtype, **form))
    return FileSession(model.SerializeToString(), NAMES, form.get("more", {}))(inputs)


def assert_as_engine(
    tagger: Tagger,
    policy: ThresholdPolicy | None,
    inputs: JetInputs,
    *,
    chunk_size: int = 512,
    atol: float = 1e-12,
    **form: Any,
) -> Tensor:
    """Compare a file with the engine: the same exits, and in double precision the same digits; return the exits."""
    scores_NK, index_N = answers(tagger, policy, inputs, **form)
    expected = Engine(tagger, policy, chunk_size=chunk_size)(inputs)
    assert index_N.tolist() == expected.exit_index_N.tolist()
    torch.testing.assert_close(scores_NK, expected.logits_NK.softmax(dim=-1), rtol=0, atol=atol)
    return index_N


def session(content: bytes) -> Any:
    """A session of ONNX Runtime on one thread."""
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
