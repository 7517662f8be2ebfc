"""Checkpoints with damaged bytes, or with contents of other types: one line with the file, never a wrong weight."""

import copy
import itertools
import random
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from phaze_ee.data.schema import DataSchema
from phaze_ee.engine.engine import Engine
from phaze_ee.errors import CheckpointError, PhazeError
from phaze_ee.models.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from tests.data.small import options
from tests.jets import small_tagger
from tests.models.test_globals import jets_for, tagger_for

Key = tuple[str | int, ...]
MUTATIONS = 100
VALUES: list[Any] = [None, True, 0, -1, 3.5, float("nan"), "x", "", b"b", [], [1], ["a"], {}, {"a": 1}, {1: 2}, (1, 2)]
OTHERS: tuple[Any, ...] = (None, "x", b"x", {"a": 1}, 1e300)
ATTRIBUTES, FOLDER = 38, 0x10  # in a table of contents of zip: place in an entry, and bit
TENSORS: list[Any] = [torch.zeros(2), torch.zeros(2, dtype=torch.cfloat), torch.zeros(2, device="meta")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tagger = small_tagger(("input", 0, 2), seed=3).float()
    save_checkpoint(tmp_path / "best_model.pt", Checkpoint(tagger, {"lr": 0.1}, options(), "hash", 4, {"a": 0.5}))
    return tmp_path / "best_model.pt"


def keys(value: Any, before: Key = ()) -> Iterator[Key]:
    """Yield where the parts of nested lists and mappings are."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*before, key)
        yield from keys(inner, (*before, key))


def mutated(content: Any, key: Key, value: Any) -> Any:
    changed = copy.deepcopy(content)
    place = changed
    for part in key[:-1]:
        place = place[part]
    if value is ...:
        del place[key[-1]]
    else:
        place[key[-1]] = value
    return changed


def error_of(path: Path) -> str | None:
    try:
        found = load_checkpoint(path)
        DataSchema.from_options(found.data_options, str(path))
    except PhazeError as error:
        return str(error)
    return None


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("seed", range(4))
def test_contents_of_other_types(path: Path, seed: int) -> None:
    content, draw = torch.load(path, weights_only=True), random.Random(seed)
    places, refused = list(keys(content)), 0
    for _ in range(MUTATIONS // 4):
        torch.save(mutated(content, draw.choice(places), draw.choice([*VALUES, *TENSORS, ...])), path)
        error = error_of(path)
        if error is not None:
            refused += 1
            assert str(path) in error
            assert "\n" not in error
    assert refused > MUTATIONS // 8


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("arguments", [1]),
        ("arguments", {}),
        ("exit_stages", None),
        ("exit_stages", [99]),
        ("exit_head_shape", {"a": 1}),
        ("exit_link", 3),
        ("state_dict", []),
        ("state_dict", {"a": 1}),
        ("epoch", []),
        ("options", None),
        ("metrics", {"a": "b"}),
    ],
)
def test_a_part_of_another_type(path: Path, key: str, value: Any) -> None:
    torch.save({**torch.load(path, weights_only=True), key: value}, path)
    with pytest.raises(CheckpointError, match=f"{re.escape(str(path))} is a damaged checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("change", ["cfloat", "meta"])
def test_weights_of_another_type(path: Path, change: str) -> None:
    content = torch.load(path, weights_only=True)
    kind: Any = torch.cfloat if change == "cfloat" else change
    torch.save({**content, "state_dict": {key: value.to(kind) for key, value in content["state_dict"].items()}}, path)
    with pytest.raises(CheckpointError, match="is of another architecture"):
        load_checkpoint(path)


def test_a_version_that_is_no_number(path: Path) -> None:
    torch.save({**torch.load(path, weights_only=True), "version": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"has checkpoint 'version' tensor.*; this program reads 1"):
        load_checkpoint(path)


def test_a_flipped_bit_in_a_weight(path: Path) -> None:
    """torch itself reads the wrong weight in silence."""
    whole = path.read_bytes()
    tagger = load_checkpoint(path).tagger
    weight = tagger.state_dict()["backbone.mod.fc.0.0.weight"].numpy().tobytes()
    place = whole.index(weight) + len(weight) // 2
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    torch.load(path, weights_only=True)
    for load in (load_checkpoint, lambda damaged: load_weights(tagger, damaged)):
        with pytest.raises(CheckpointError, match=r"cannot be read: .*the checksum of .* is wrong"):
            load(path)


def test_an_entry_that_claims_to_be_a_folder(path: Path) -> None:
    """torch itself reads such a weight as memory that nobody has written; its bytes and its checksum are right."""
    whole = bytearray(path.read_bytes())
    wanted = load_checkpoint(path).tagger.state_dict()
    for place in [match.start() for match in re.finditer(b"PK\x01\x02", whole)]:
        whole[place + ATTRIBUTES] |= FOLDER
    path.write_bytes(whole)
    torch.testing.assert_close(load_checkpoint(path).tagger.state_dict(), wanted, rtol=0, atol=0)


def test_an_entry_that_is_there_twice(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(archive.namelist()[0], b"another")
    with pytest.raises(CheckpointError, match="an entry is there twice"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("arguments", {"conv_params": [[4, [10**9, 10**9]]]}),
        ("arguments", {"conv_params": [[4, [2000]]] * 1000}),
        ("exit_head_shape", {"width": 64, "depth": 10**9}),
        ("exit_head_shape", {"width": 10**7, "depth": 1}),
    ],
)
def test_sizes_that_the_weights_cannot_fill(path: Path, key: str, value: dict[str, Any]) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, "exit_head": "mlp", key: {**content[key], **value}}, path)
    with pytest.raises(CheckpointError, match="it describes a larger network than its weights can fill"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["ParticleTransformer", "ParticleNeXt", "PFN", "one"])
def test_an_argument_of_another_kind_is_refused_or_changes_nothing(tmp_path: Path, name: str) -> None:
    """weaver's constructors take many in silence, such as activation = "x", which is a ReLU."""
    tagger, jets = tagger_for(name, numbers=0), jets_for(name)[0]
    save_checkpoint(tmp_path / "model.pt", Checkpoint(tagger, {}, options(), "hash", 4, {}))
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    wanted_NK = Engine(tagger)(jets).logits_NK
    refused = 0
    for key, value in itertools.product(sorted(content["arguments"]), OTHERS):
        torch.save({**content, "arguments": {**content["arguments"], key: value}}, tmp_path / "model.pt")
        try:
            loaded = load_checkpoint(tmp_path / "model.pt").tagger.double()
        except CheckpointError:
            refused += 1
        else:
            torch.testing.assert_close(Engine(loaded)(jets).logits_NK, wanted_NK)
    assert refused > 3 * len(content["arguments"])


@pytest.mark.parametrize("neighbours", [0, -0.0, 2.5, -3, "4", None, 4_000_000])
def test_a_number_of_neighbours_that_cannot_be(path: Path, neighbours: Any) -> None:
    """No weight depends on it. Edges are computed for all of them, so very many would take hours."""
    content = torch.load(path, weights_only=True)
    content["arguments"]["conv_params"][0] = [neighbours, *content["arguments"]["conv_params"][0][1:]]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"its network cannot be built \(ValidationError: .*conv_params"):
        load_checkpoint(path)


def test_weights_that_share_one_number_fill_nothing(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    weights = {**content["state_dict"], "more": torch.zeros(1).expand(2**40)}
    shape = {"width": 10**7, "depth": 1}
    torch.save({**content, "exit_head": "mlp", "exit_head_shape": shape, "state_dict": weights}, path)
    with pytest.raises(CheckpointError, match="it describes a larger network than its weights can fill"):
        load_checkpoint(path)
