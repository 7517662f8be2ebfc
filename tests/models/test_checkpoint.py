"""Checkpoints: what goes in comes out, and what is no checkpoint is refused without harm."""

import copy
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from weaver.nn.model.ParticleNet import ParticleNet as WeaverParticleNet
from weaver.nn.model.ParticleNeXt import ParticleNeXt as WeaverParticleNeXt

from phaze_ee.errors import CheckpointError, RunError
from phaze_ee.models.backbone import Backbone
from phaze_ee.models.checkpoint import Checkpoint, load_backbone, load_checkpoint, load_weights, save_checkpoint
from phaze_ee.models.heads import HeadShape
from phaze_ee.models.links import EXIT_LINKS
from phaze_ee.models.particle_flow_network import ParticleFlowNetwork
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.particle_next import ParticleNeXt
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.tagger import Tagger
from phaze_ee.workspace import file_hash
from tests.jets import CHANNELS, random_jets, small_tagger, small_weaver_network
from tests.models.test_particle_next import SMALL
from tests.models.test_particle_transformer import weaver_part

JETS = random_jets([1, 5, 9, 12], dtype=torch.float32)


def checkpoint(tagger: Tagger) -> Checkpoint:
    return Checkpoint(tagger, {"lr": 0.1}, {"inputs": {}}, "hash", 4, {"val/accuracy": 0.5}, {"torch": "2"})


@pytest.fixture
def tagger() -> Tagger:
    return small_tagger(("input", 0, 2), seed=3).float()


@pytest.fixture
def path(tmp_path: Path, tagger: Tagger) -> Path:
    save_checkpoint(tmp_path / "best_model.pt", checkpoint(tagger))
    return tmp_path / "best_model.pt"


def refused(action: Callable[[], Any], path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        action()
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("changes", [{}, {"use_fusion": True}, {"use_fts_bn": False, "use_counts": False}])
def test_round_trip_from_the_file_alone(tmp_path: Path, changes: dict[str, Any]) -> None:
    tagger = small_tagger(("input", 1), seed=3, **changes).float()
    save_checkpoint(tmp_path / "x.pt", checkpoint(tagger))
    loaded = load_checkpoint(tmp_path / "x.pt")
    torch.testing.assert_close(loaded.tagger(JETS), tagger(JETS), rtol=0, atol=0)
    assert not loaded.tagger.training
    assert loaded.tagger.exit_names == ("exit_0", "exit_1", "full_model")
    assert loaded.tagger.exit_stages == ("input", 1)
    assert (loaded.options, loaded.data_options, loaded.data_hash) == ({"lr": 0.1}, {"inputs": {}}, "hash")
    assert (loaded.epoch, loaded.metrics, loaded.versions) == (4, {"val/accuracy": 0.5}, {"torch": "2"})


def test_the_hash_is_that_of_the_bytes_that_were_read(path: Path, tagger: Tagger) -> None:
    wanted = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_checkpoint(path).hash == load_weights(tagger, path) == file_hash(path) == wanted
    torch.save(tagger.backbone.state_dict(), path)
    assert load_weights(tagger, path) == hashlib.sha256(path.read_bytes()).hexdigest() != wanted
    assert checkpoint(tagger).hash == ""


def test_the_kinds_of_heads_are_stored(tmp_path: Path) -> None:
    tagger = Tagger(ParticleNet(small_weaver_network()), ("input", 0), ("deep_sets", "linear")).float().eval()
    save_checkpoint(tmp_path / "x.pt", checkpoint(tagger))
    loaded = load_checkpoint(tmp_path / "x.pt").tagger
    assert loaded.head_names == ("deep_sets", "linear")
    torch.testing.assert_close(loaded(JETS), tagger(JETS), rtol=0, atol=0)


@pytest.mark.parametrize("link", EXIT_LINKS)
def test_shape_of_heads_and_link_are_stored(tmp_path: Path, link: str) -> None:
    backbone = ParticleNet(small_weaver_network())
    tagger = Tagger(backbone, ("input", 0), "mlp", head_shape=HeadShape(5, 2), link=link).float().eval()
    for parameter in tagger.link.parameters():
        torch.nn.init.normal_(parameter)
    save_checkpoint(tmp_path / "x.pt", checkpoint(tagger))
    loaded = load_checkpoint(tmp_path / "x.pt").tagger
    assert (loaded.head_shape, loaded.link.name) == (HeadShape(5, 2), link)
    torch.testing.assert_close(loaded(JETS), tagger(JETS), rtol=0, atol=0)
    torch.testing.assert_close(loaded.packed()(JETS), tagger.packed()(JETS), rtol=0, atol=0)


def test_a_checkpoint_from_before_shapes_and_links_loads(tmp_path: Path) -> None:
    tagger = Tagger(ParticleNet(small_weaver_network()), ("input", 0), ("deep_sets", "linear")).float().eval()
    path = tmp_path / "x.pt"
    save_checkpoint(path, checkpoint(tagger))
    content = torch.load(path, weights_only=True)
    torch.save({key: value for key, value in content.items() if key not in ("exit_head_shape", "exit_link")}, path)
    torch.testing.assert_close(load_checkpoint(path).tagger(JETS), tagger(JETS), rtol=0, atol=0)


def test_a_checkpoint_with_one_kind_for_all_heads_loads(path: Path, tagger: Tagger) -> None:
    torch.save({**torch.load(path, weights_only=True), "exit_head": "linear"}, path)
    torch.testing.assert_close(load_checkpoint(path).tagger(JETS), tagger(JETS), rtol=0, atol=0)


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    assert refused(lambda: load_checkpoint(path), path) == f"checkpoint {path} does not exist"


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    assert "cannot be read" in refused(lambda: load_checkpoint(path), path)


@pytest.mark.parametrize("content", [b"not a checkpoint at all", b"\x80\x02.", b"\xff", b"PK\x03\x04 no archive"])
def test_a_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    assert "cannot be read" in refused(lambda: load_checkpoint(path), path)


@pytest.mark.parametrize("content", [torch.ones(3), [1, 2], {}])
def test_a_file_without_weights(tmp_path: Path, tagger: Tagger, content: Any) -> None:
    path = tmp_path / "x.pt"
    torch.save(content, path)
    assert "holds no weights" in refused(lambda: load_weights(tagger, path), path)


@pytest.mark.parametrize("name", ["state_dict", "model"])
def test_weights_beside_other_things_are_named(tmp_path: Path, tagger: Tagger, name: str) -> None:
    path = tmp_path / "x.pt"
    torch.save({name: tagger.backbone.state_dict(), "epoch": 3}, path)
    text = refused(lambda: load_weights(tagger, path), path)
    assert f"holds no weights, but {name}, epoch; give a file of the weights alone" in text


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_compiled_and_parallel_networks(tmp_path: Path, tagger: Tagger, prefix: str) -> None:
    theirs = small_tagger(seed=5).float().backbone.state_dict()
    path = tmp_path / "x.pt"
    torch.save({f"{prefix}{name}": value for name, value in theirs.items()}, path)
    load_weights(tagger, path)
    own = tagger.backbone.state_dict()
    assert all(torch.equal(own[name], value) for name, value in theirs.items())


class _CreatesAFile:
    """What an attacker puts into a checkpoint: unpickling it runs a program."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_malicious_file_does_not_run(tmp_path: Path, tagger: Tagger) -> None:
    path, trace = tmp_path / "x.pt", tmp_path / "trace"
    torch.save({"format": "phaze_ee.tagger", "state_dict": _CreatesAFile(trace)}, path)
    text = refused(lambda: load_checkpoint(path), path)
    assert "other than tensors" in text
    assert "weights_only" not in text  # torch advises to set it to False
    assert "other than tensors" in refused(lambda: load_weights(tagger, path), path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # it would have
    assert trace.exists()


def test_weaver_weights_are_no_checkpoint_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(small_weaver_network().state_dict(), path)
    assert "c.init_from" in refused(lambda: load_checkpoint(path), path)


def test_another_version(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, "version": 2}, path)
    assert "'version' 2" in refused(lambda: load_checkpoint(path), path)


@pytest.mark.parametrize("lost", ["backbone", "arguments", "state_dict", "data_options", "version"])
def test_a_checkpoint_with_a_part_missing(path: Path, lost: str) -> None:
    content = torch.load(path, weights_only=True)
    del content[lost]
    torch.save(content, path)
    assert repr(lost) in refused(lambda: load_checkpoint(path), path)


def test_an_unknown_network(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, "backbone": "future_net"}, path)
    assert "'future_net'" in refused(lambda: load_checkpoint(path), path)


@pytest.mark.parametrize("prefix", ["mod.", ""])
def test_weaver_weights_start_the_backbone_with_and_without_prefix(tmp_path: Path, prefix: str) -> None:
    weaver = small_weaver_network(seed=8).float()
    path = tmp_path / "net_epoch-0_state.pt"
    torch.save({f"{prefix}{name}": value for name, value in weaver.state_dict().items()}, path)
    tagger = small_tagger(seed=1).float()
    heads = copy.deepcopy(tagger.heads.state_dict())
    load_weights(tagger, path)
    torch.testing.assert_close(tagger(JETS)[-1], weaver(JETS.points, JETS.features, JETS.mask))
    assert all(torch.equal(heads[name], value) for name, value in tagger.heads.state_dict().items())


def test_our_checkpoint_starts_backbone_and_exits(path: Path, tagger: Tagger) -> None:
    other = small_tagger(("input", 0, 2), seed=9).float()
    load_weights(other, path)
    torch.testing.assert_close(other(JETS), tagger(JETS), rtol=0, atol=0)


def wider(features: int) -> Tagger:
    network = WeaverParticleNet(
        input_dims=features, num_classes=4, conv_params=[(4, (8, 8)), (4, (16, 8))], fc_params=[(16, 0.1)]
    )
    return Tagger(ParticleNet(network), (0,))


def test_another_number_of_features_is_said_in_words(path: Path, tagger: Tagger) -> None:
    text = refused(lambda: load_weights(wider(5), path), path)
    ours = tagger.backbone.input_channels
    assert f"its network takes {ours} features of a particle, and the inputs of the data_config give 5; set" in text
    assert "bn_fts" not in text


NETWORKS: dict[str, Callable[[int], Backbone[Any]]] = {
    "ParticleTransformer": lambda features: ParticleTransformer(weaver_part(input_dim=features).float()),
    "ParticleNeXt": lambda features: ParticleNeXt(WeaverParticleNeXt(**{**SMALL, "feature_input_dim": features})),
    "PFN": lambda features: ParticleFlowNetwork(features, 4, (8, 8), (8,)),
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
def test_every_network_says_another_number_of_features(network: Callable[[int], Backbone[Any]], tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(network(6).state_dict(), path)
    text = refused(lambda: load_weights(Tagger(network(5), ()), path), path)
    assert "its network takes 6 features of a particle, and the inputs of the data_config give 5; set" in text


def test_another_architecture_lists_the_differences(path: Path) -> None:
    tagger = wider(CHANNELS)
    before = copy.deepcopy(tagger.state_dict())
    text = refused(lambda: load_weights(tagger, path), path)
    assert "of another architecture" in text
    assert text.count(";") >= 3
    assert " more; make the network options" in text
    assert all(torch.equal(before[name], value) for name, value in tagger.state_dict().items())


def test_another_number_of_classes_names_both_shapes(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(small_weaver_network(num_classes=2).state_dict(), path)
    text = refused(lambda: load_weights(small_tagger(), path), path)
    assert "has shape (2, 16), here (4, 16)" in text


@pytest.mark.parametrize("number", [torch.nan, -torch.inf])
def test_weights_that_are_not_finite_are_refused_with_their_tensor(number: float, tmp_path: Path) -> None:
    path, weights = tmp_path / "x.pt", small_weaver_network().state_dict()
    for name in ("bn_fts.running_var", "fc.1.bias"):
        weights[name][1] = number
    torch.save(weights, path)
    text = refused(lambda: load_backbone(small_tagger().architecture, path), path)
    assert "not finite: mod.bn_fts.running_var holds NaN or infinity, and 1 other tensor; its training" in text


def test_a_failed_save_keeps_the_older_checkpoint(path: Path, tagger: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def write_bytes(self: Path, data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_bytes)
        with pytest.raises(RunError, match=r"best_model\.pt: No space left on device"):
            save_checkpoint(path, checkpoint(tagger))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
