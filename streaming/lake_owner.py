"""Lake owner: who may replace and remove files of a lake. One process at a time, and it says so by a lock.

    with owner(settings):                 # the stream for as long as it runs, `candlewick lake compact` for a moment
        compact(writer, "clean", folder)

Anyone may read, and anyone may add revisions. The lock ends with its process, however that dies. For a lake of several
machines on S3 the lock covers this machine alone: run the stream in one place, as Spark's checkpoint demands anyway.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlparse

from feature_repo.contracts import StoreUnavailable
from feature_repo.settings import Settings

LOCK = ".owner"
EVERY_S = 0.5


@contextmanager
def owner(settings: Settings, wait_s: float = 0.0, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Own the lake of these settings. Raises `StoreUnavailable` when someone else does, and goes on doing so."""
    path = lock_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        for _ in range(int(wait_s / EVERY_S)):
            if _locked(handle):
                break
            sleep(EVERY_S)
        else:
            if not _locked(handle):
                raise StoreUnavailable(
                    f"lake {settings.lake}: another process owns it; a running stream compacts and retains by itself"
                )
        yield
    finally:
        os.close(handle)


def is_owned(settings: Settings) -> bool:
    """Whether a process of this machine owns the lake now."""
    path = lock_file(settings)
    if not path.exists():
        return False
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return not _locked(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def lock_file(settings: Settings) -> Path:
    """Beside a lake on a file system, in the run folder for one on S3."""
    parsed = urlparse(settings.lake)
    return Path(unquote(parsed.path)) / LOCK if parsed.scheme == "file" else settings.run_dir / "lake.owner"


def _locked(handle: int, how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
