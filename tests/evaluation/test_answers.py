from pathlib import Path

import numpy as np
import pytest
import torch

from phaze_ee.errors import DataError
from phaze_ee.evaluation.answers import predict
from phaze_ee.evaluation.metrics import evaluate_exit
from phaze_ee.evaluation.rejection import JETCLASS_EFFICIENCIES
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetBatch
from tests.jets import CLASSES, labelled_batch, random_jets, small_tagger
from tests.published import published_network, real_jets

NAMES = tuple(f"class_{index}" for index in range(CLASSES))


def part(batch: JetBatch, first: int, last: int) -> JetBatch:
    keep = torch.arange(first, last)
    return JetBatch(
        batch.inputs.select(keep), batch.label_N[keep], {"jet_pt": np.arange(first, last, dtype=np.float32)}
    )


def test_input_order_labels_and_observers_do_not_depend_on_the_batches() -> None:
    tagger = small_tagger()
    jets = labelled_batch(10, dtype=torch.float64)
    answers = predict(tagger, [part(jets, 0, 4), part(jets, 4, 9), part(jets, 9, 10)], NAMES)
    assert len(answers) == 10
    assert answers.exit_names == ("exit_0", "exit_1", "exit_2", "full_model")
    assert answers.logits_ENK.dtype == np.float32
    with torch.no_grad():
        np.testing.assert_allclose(answers.logits_ENK, tagger(jets.inputs).numpy(), atol=1e-5)
    np.testing.assert_array_equal(answers.label_N, jets.label_N)
    np.testing.assert_array_equal(answers.particle_count_N, jets.inputs.particle_count_N)
    np.testing.assert_array_equal(answers.observers["jet_pt"], np.arange(10))


def test_the_network_keeps_its_modes_and_statistics() -> None:
    tagger = small_tagger().train()
    tagger.backbone.eval()
    modes = [module.training for module in tagger.modules()]
    before = {name: value.clone() for name, value in tagger.state_dict().items()}
    predict(tagger, [labelled_batch(4, dtype=torch.float64)], NAMES)
    assert [module.training for module in tagger.modules()] == modes
    assert len(set(modes)) == 2
    assert all(torch.equal(value, before[name]) for name, value in tagger.state_dict().items())


def test_modes_are_kept_when_the_files_fail() -> None:
    tagger = small_tagger().train()
    with pytest.raises(DataError, match="no jet"):
        predict(tagger, [], NAMES)
    assert tagger.training


def test_jets_of_one_particle_and_of_none() -> None:
    batch = JetBatch(random_jets([0, 1], length=12), torch.tensor([0, 1]))
    answers = predict(small_tagger(), [batch], NAMES)
    assert np.isfinite(answers.logits_ENK).all()


def test_published_network_on_real_jets_is_as_accurate_as_weavers_own(shared_dir: Path) -> None:
    weaver_network = published_network(shared_dir, "kin")
    inputs, label_N = real_jets(shared_dir)
    inputs, label_N = inputs.select(torch.arange(50)), label_N[:50]
    with torch.no_grad():
        right_N = weaver_network(inputs.points, inputs.features, inputs.mask).argmax(dim=1) == label_N
    batches = [JetBatch(inputs.select(jets), label_N[jets]) for jets in torch.split(torch.arange(50), 32)]
    names = ("label_QCD", *JETCLASS_EFFICIENCIES)
    answers = predict(Tagger(ParticleNet(weaver_network), []), batches, names)
    full = evaluate_exit(answers.logits_ENK[-1], answers.label_N, names, None)
    assert full.accuracy == pytest.approx(right_N.double().mean().item())
    assert full.accuracy > 0.6
    assert full.roc_auc is not None
    assert full.roc_auc > 0.93
