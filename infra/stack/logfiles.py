"""Log files: keep each bounded, show their ends, follow them.

The programs append to a file they hold open, so it cannot be renamed away under them: it is copied to
`.1` and cut to nothing. What is written between the two steps is lost; at 10 MB a file that is rare.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

MOST_BYTES = 10 * 1024 * 1024
KEPT = 3


def path(run_dir: Path, name: str) -> Path:
    """Where the log of a service is."""
    return run_dir / "logs" / f"{name}.log"


def rotate(log: Path, most_bytes: int = MOST_BYTES, kept: int = KEPT) -> bool:
    """Move a log that has grown past `most_bytes` to `.1`, older ones up to `.kept`. Returns whether it did."""
    try:
        if log.stat().st_size <= most_bytes:
            return False
    except FileNotFoundError:
        return False
    for number in range(kept - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)
    return True


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log; none when there is no file."""
    if lines <= 0 or not log.exists():
        return []
    size = log.stat().st_size
    block = min(size, 64 * 1024 + lines * 400)
    with log.open("rb") as file:
        file.seek(size - block)
        return file.read().decode("utf-8", "replace").splitlines()[-lines:]


def added(logs: Sequence[Path], offsets: dict[Path, int]) -> Iterator[tuple[str, str]]:
    """(name, line) of each whole line that came since the last call; `offsets` remembers where that was."""
    for log in logs:
        size = log.stat().st_size if log.exists() else 0
        start = offsets.setdefault(log, size)
        if size < start:  # it was rotated
            start = 0
        if size > start:
            with log.open("rb") as file:
                file.seek(start)
                block = file.read(size - start)
            whole = block[: block.rfind(b"\n") + 1]
            offsets[log] = start + len(whole)
            yield from ((log.stem, line) for line in whole.decode("utf-8", "replace").splitlines())
