"""State: the one file that says what runs, and the lock that lets one supervisor at a time write it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # not in Python 3.10, which the doctor may be run by
    from typing import Self

STATE, LOCK = "state.json", "stack.lock"
TRIES, TRY_EVERY_S = 5, 0.05


class AlreadyRunning(RuntimeError):
    """Another supervisor holds the lock of this run folder."""


class Lock:
    """An exclusive lock on a run folder, gone with the process that holds it, its file gone when released."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / LOCK
        self._file = -1

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(TRIES):
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._current():
                    return self
            except BlockingIOError:
                time.sleep(TRY_EVERY_S)  # `held` looks by taking the lock for a moment
            os.close(self._file)  # or the last holder removed the file between our open and our lock
        raise AlreadyRunning(f"another supervisor holds {self.path}")

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._file)

    def _current(self) -> bool:
        try:
            return self.path.stat().st_ino == os.fstat(self._file).st_ino
        except FileNotFoundError:
            return False


def held(run_dir: Path) -> bool:
    """Whether a living supervisor holds the lock."""
    try:
        file = os.open(run_dir / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def write(run_dir: Path, state: dict[str, Any]) -> None:
    """Replace the state file in one step: a reader sees the old one or the new one."""
    run_dir.mkdir(parents=True, exist_ok=True)
    scratch = run_dir / f"{STATE}.tmp"
    scratch.write_text(json.dumps(state, indent=1))
    scratch.replace(run_dir / STATE)


def read(run_dir: Path) -> dict[str, Any] | None:
    """The last written state, or None. It may be stale: ask `held` whether someone keeps it."""
    try:
        return dict(json.loads((run_dir / STATE).read_text()))
    except FileNotFoundError:
        return None
    except ValueError:  # not ours, or of a machine that lost power; the processes carry their own marks
        return None


def clear(run_dir: Path) -> None:
    (run_dir / STATE).unlink(missing_ok=True)
    (run_dir / LOCK).unlink(missing_ok=True)
