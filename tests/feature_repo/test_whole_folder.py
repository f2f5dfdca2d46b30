"""A replacement that is killed at any step leaves the old folder or the new one, whole, and the next one tidies up."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from feature_repo.settings import ROOT
from feature_repo.whole_folder import recover, replace_folder

OLD, NEW = {"model": b"old weights", "meta": b"old"}, {"model": b"new weights", "card": b"new"}
KILLED_AT = """
import os, signal, sys
from pathlib import Path
from feature_repo.whole_folder import replace_folder

made, place, at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
calls = 0

def kill_at(event, arguments):
    global calls
    if event.startswith(("os.", "shutil.", "fcntl.")) or event == "open":
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill_at)
replace_folder(made, place)
"""


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def killed(made: Path, place: Path, at: int) -> bool:
    """Whether a replacement was killed before its file-system call number `at`; False: it had fewer."""
    ended = subprocess.run([sys.executable, "-c", KILLED_AT, str(made), str(place), str(at)], cwd=ROOT, check=False)
    assert ended.returncode in (0, -signal.SIGKILL)
    return ended.returncode != 0


def test_killed_at_any_call_the_old_or_the_new_folder_is_there_whole(tmp_path: Path) -> None:
    made, seen, at = written(tmp_path / "made", NEW), [], 0
    while True:
        at += 1
        around = tmp_path / str(at)
        around.mkdir()
        place = written(around / "model", OLD)
        stopped = killed(made, place, at)
        seen.append("nothing" if not place.exists() else "old" if held(place) == OLD else "new")
        recover(place)
        assert held(place) in (OLD, NEW), f"killed at call {at}"
        if not stopped:
            break
        replace_folder(made, place)
        assert held(place) == NEW
        assert [path.name for path in around.iterdir()] == ["model"], "what the killed one left is gone"
    assert [word for i, word in enumerate(seen) if i == 0 or seen[i - 1] != word] == ["old", "nothing", "new"], seen


def test_a_place_that_is_empty_or_a_link_is_filled(tmp_path: Path) -> None:
    made = written(tmp_path / "made", NEW)
    replace_folder(made, tmp_path / "deep" / "er" / "model")
    assert held(tmp_path / "deep" / "er" / "model") == NEW
    real = written(tmp_path / "real", OLD)
    (tmp_path / "link").symlink_to(real)
    replace_folder(made, tmp_path / "link")
    assert held(real) == held(tmp_path / "link") == NEW
    assert (tmp_path / "link").is_symlink()


def test_a_copy_that_fails_leaves_the_old_folder_and_says_so(tmp_path: Path) -> None:
    place = written(tmp_path / "model", OLD)
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "nowhere", place)
    assert held(place) == OLD


def test_recovering_what_is_whole_changes_nothing(tmp_path: Path) -> None:
    place = written(tmp_path / "model", OLD)
    written(tmp_path / ".model.old", NEW)
    recover(place)
    assert held(place) == OLD
    recover(tmp_path / "none")
    assert not (tmp_path / "none").exists()
