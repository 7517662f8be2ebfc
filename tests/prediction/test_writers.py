"""What a file of predictions says of itself: it is checked, and files of older versions stay readable."""

from pathlib import Path

import numpy as np
import pytest

from phaze_ee.errors import UsageError
from phaze_ee.prediction import writers
from phaze_ee.prediction.audited import read_audited
from phaze_ee.prediction.writers import InputFile, Manifest, Recipe, check_columns, open_writer, read_manifest

MANIFEST = Manifest(
    recipe=Recipe(model="m", policy=None, data="d", exit_scores=False, monitored=None),
    input=InputFile(path="jets.root", size=1, changed_ns=1),
    rows=480,
    labelled=False,
    exits={"exit_0": 300, "full_model": 180},
    macs=1000,
    full_macs=2000,
)


def written(path: Path, manifest: Manifest = MANIFEST, jets: int = 480) -> Path:
    with open_writer(path) as writer:
        writer.write({"entry": np.arange(jets), "run": np.full(jets, 7)})
        writer.finish(manifest.model_copy(update={"checksums": writer.checksums}))
    return path


@pytest.mark.parametrize("suffix", ["root", "parquet"])
def test_changed_numbers_of_a_manifest_are_noticed(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"jets.{suffix}"
    monkeypatch.setattr(writers, "_checksum", lambda text: "0badc0de")  # that of other numbers
    written(path)
    monkeypatch.undo()
    with pytest.raises(UsageError, match=r"is damaged \(its manifest\); replace it with --overwrite"):
        read_manifest(path)
    with pytest.raises(UsageError, match="was not written by mode predict of this version, or is damaged"):
        read_audited(path)
    written(path)
    assert read_manifest(path).macs == 1000


def test_no_flipped_bit_of_a_manifest_is_taken(tmp_path: Path) -> None:
    path = written(tmp_path / "jets.parquet")
    whole = path.read_bytes()
    start = whole.index(b'{"recipe"')
    for place in range(start, start + len(MANIFEST.model_dump_json()) - 2, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x04]) + whole[place + 1 :])
        with pytest.raises(UsageError, match="exists and "):
            read_manifest(path)


@pytest.mark.parametrize("kind", list(writers.WRITERS.values()))
def test_files_of_older_versions_have_no_checksum(
    tmp_path: Path, kind: type[writers.PredictionWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = kind._finish
    monkeypatch.setattr(kind, "_finish", lambda own, texts: finish(own, {"phaze_ee": texts["phaze_ee"]}))
    for suffix in writers.WRITERS:
        assert read_manifest(written(tmp_path / f"jets.{suffix}")).macs == 1000


@pytest.mark.parametrize("checksums", [True, False])
def test_a_manifest_of_other_jets_than_the_columns(tmp_path: Path, checksums: bool) -> None:
    path = written(tmp_path / "jets.root", MANIFEST.model_copy(update={"exits": {"exit_0": 307, "full_model": 180}}))
    manifest = read_manifest(path)
    with pytest.raises(UsageError, match=r"is damaged \(column entry\)"):
        check_columns(path, manifest if checksums else manifest.model_copy(update={"checksums": None}))
    check_columns(path, MANIFEST.model_copy(update={"checksums": manifest.checksums if checksums else None}))
