"""Files that are whole or absent, whatever interrupts their writing."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from phaze_ee.atomic import (
    check_can_write,
    remove_abandoned,
    remove_leftovers,
    replacing,
    replacing_folder,
    temporary_folder,
)
from phaze_ee.errors import RunError

OLD, NEW = b"old", b"new and longer"


@pytest.fixture
def existing(tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    path.write_bytes(OLD)
    return path


def write(path: Path, error: BaseException | None = None) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(NEW)
        if error is not None:
            raise error


def test_a_read_only_folder_is_refused_before_work_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new" / "results"
    check_can_write(folder)
    assert not folder.exists()
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write to any folder of its own
    with pytest.raises(RunError, match=f"cannot write to {tmp_path}: it is read-only"):
        check_can_write(folder)


def test_a_complete_file_takes_the_place_of_the_old_one(existing: Path) -> None:
    write(existing)
    assert existing.read_bytes() == NEW
    assert list(existing.parent.iterdir()) == [existing]


def test_the_old_file_stands_until_the_new_one_is_complete(existing: Path) -> None:
    with replacing(existing) as temporary:
        temporary.write_bytes(NEW)
        assert existing.read_bytes() == OLD
        assert temporary.suffix == existing.suffix
        assert temporary.parent == existing.parent


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "result.json")
    assert (tmp_path / "a" / "b" / "result.json").read_bytes() == NEW


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), ValueError("no"), MemoryError()])
def test_whatever_interrupts_leaves_the_old_file_and_nothing_else(existing: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        write(existing, error)
    assert existing.read_bytes() == OLD
    assert list(existing.parent.iterdir()) == [existing]


def test_a_full_disk_while_writing(existing: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(RunError) as caught:
        write(existing, full)
    assert str(caught.value).startswith(f"cannot write {existing}: No space left on device; free space")
    assert caught.value.exit_status == 1
    assert existing.read_bytes() == OLD
    assert list(existing.parent.iterdir()) == [existing]


def test_a_full_disk_that_only_shows_when_synced(existing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(RunError, match="No space left on device"):
        write(existing)
    assert existing.read_bytes() == OLD
    assert list(existing.parent.iterdir()) == [existing]


def test_a_rename_that_fails(existing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(self: Path, target: Any) -> Path:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(RunError, match="Permission denied"):
        write(existing)
    assert existing.read_bytes() == OLD
    assert list(existing.parent.iterdir()) == [existing]


def test_a_file_where_a_folder_should_be(existing: Path) -> None:
    with pytest.raises(RunError, match=r"cannot write .*result\.json/deeper/x\.json"):
        write(existing / "deeper" / "x.json")
    assert existing.read_bytes() == OLD


def test_a_folder_where_the_file_should_be(tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    with pytest.raises(RunError, match="cannot write"):
        write(tmp_path / "result.json")
    assert list(tmp_path.iterdir()) == [tmp_path / "result.json"]


def test_a_writer_that_wrote_nothing(existing: Path) -> None:
    with pytest.raises(RunError, match="cannot write"), replacing(existing):
        pass
    assert existing.read_bytes() == OLD


def test_what_dead_processes_left_is_removed_and_what_others_write_stays(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    names = [
        f".shard.{host}.{dead.pid}.arrow",
        f".shard.{host}.{os.getpid()}.arrow",
        ".shard.elsewhere.1.arrow",
        "shard.arrow",
    ]
    for name in names:
        (tmp_path / name).touch()
    remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_a_planted_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(OLD)
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * 2 * size)
    planted = tmp_path / f".result.{socket.gethostname()}.{os.getpid()}.tmp00000000.json"
    planted.symlink_to(secret)
    with pytest.raises(RunError, match="File exists"):
        write(tmp_path / "result.json")
    assert secret.read_bytes() == OLD
    assert not (tmp_path / "result.json").exists()


def test_a_link_in_the_place_of_the_temporary_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(OLD)

    def write_through_a_link() -> None:
        with replacing(tmp_path / "result.json") as temporary:
            temporary.unlink()
            temporary.symlink_to(secret)

    with pytest.raises(RunError, match="cannot write"):
        write_through_a_link()
    assert not (tmp_path / "result.json").is_symlink()
    assert list(tmp_path.iterdir()) == [secret]


def test_two_files_of_one_name_and_process_do_not_meet(existing: Path) -> None:
    with replacing(existing) as one, replacing(existing) as other:
        assert one != other
        one.write_bytes(NEW)
        other.write_bytes(NEW)


def test_temporary_names_of_this_and_of_older_versions(tmp_path: Path) -> None:
    with replacing(tmp_path / "jets.1.root") as temporary:
        temporary.write_bytes(NEW)
        name = temporary.name
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [name.replace(f".{os.getpid()}.", f".{dead.pid}."), f".jets.1.{socket.gethostname()}.{dead.pid}.root"]
    for remove in (remove_abandoned, remove_leftovers):
        for kept in (*left, "jets.root"):
            (tmp_path / kept).touch()
        remove(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["jets.1.root", "jets.root"]


def test_a_folder_that_does_not_exist_has_nothing_abandoned(tmp_path: Path) -> None:
    remove_abandoned(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_very_long_names(tmp_path: Path) -> None:
    write(tmp_path / f"{'x' * 240}.json")
    assert (tmp_path / f"{'x' * 240}.json").read_bytes() == NEW


def test_a_temporary_folder_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    script = (
        "import os; from pathlib import Path; from phaze_ee.atomic import temporary_folder\n"
        f"with temporary_folder(Path({str(tmp_path)!r}), 'place') as folder:\n"
        "    (folder / 'models').mkdir(); (folder / 'models' / 'best_model.pt').touch(); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with temporary_folder(tmp_path, "place") as own:
        remove_abandoned(tmp_path)
        assert list(tmp_path.iterdir()) == [own], "that of this process is in use"
    assert list(tmp_path.iterdir()) == []


def write_folder(path: Path, error: BaseException | None = None) -> None:
    with replacing_folder(path) as temporary:
        (temporary / "file").write_bytes(NEW)
        if error is not None:
            raise error


def test_a_complete_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "older").write_bytes(OLD)
    write_folder(folder)
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RunError("no"), OSError(errno.ENOSPC, "No space left")])
def test_an_older_folder_stays_if_the_new_one_is_not_complete(tmp_path: Path, error: BaseException) -> None:
    folder = tmp_path / "bundle"
    write_folder(folder)
    with pytest.raises((KeyboardInterrupt, RunError)):
        write_folder(folder, error)
    assert (folder / "file").read_bytes() == NEW
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    abandoned = tmp_path / f".bundle.{socket.gethostname()}.999999999.tmp0123abcd"
    abandoned.mkdir()
    (abandoned / "file").write_bytes(NEW)
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []
