"""Folders: whether the stack can write where it must, and whether there is room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from feature_repo.settings import ROOT, Settings
from infra.stack.doctor.finding import FAIL, OK, WARN, Finding

GIB = 1024**3
INSTALLING_GIB, RUNNING_GIB = 9, 2
"""Packages and the page take 7 GB; then the stack writes about a gigabyte a day."""


def written(settings: Settings) -> Mapping[str, Path]:
    """What it is → the folder that the stack writes it to."""
    lake = urlsplit(settings.lake)
    there = {"lake": Path(unquote(lake.path))} if lake.scheme == "file" else {}
    return {"run folder": settings.run_dir, "jars": settings.jars_dir, **there}


def existing(path: Path) -> Path:
    """A folder, or the nearest one above it that exists.

    >>> existing(Path("/no/such/place"))
    PosixPath('/')
    """
    return path if path.exists() else existing(path.parent)


def disk(settings: Settings, root: Path = ROOT) -> Iterator[Finding]:
    """Room on each disk that the working copy and the written folders are on."""
    need_gib = RUNNING_GIB if (root / ".venv" / ".stamps" / "all").exists() else INSTALLING_GIB
    disks: dict[int, Path] = {}
    for path in (root, *written(settings).values()):
        place = existing(path)
        disks.setdefault(place.stat().st_dev, place)
    for place in disks.values():
        yield room(place, shutil.disk_usage(place).free, need_gib)


def room(place: Path, free: int, need_gib: int) -> Finding:
    found, expected = f"{free / GIB:.1f} GiB free at {place}", f"{need_gib} GiB"
    if free >= need_gib * GIB:
        return Finding("disk", OK, found, expected)
    return Finding("disk", FAIL, found, expected, "make room, or point CANDLEWICK_RUN_DIR at a larger disk")


def folders(settings: Settings) -> Iterator[Finding]:
    """Whether each folder is there and ours to write, with all that lies directly in it."""
    for name, path in written(settings).items():
        yield folder(name, path)


def folder(name: str, path: Path, writable: Callable[[Path], bool] | None = None) -> Finding:
    """One folder that the stack writes."""
    place = existing(path)
    if not place.is_dir():
        return Finding(name, FAIL, f"{place} is a file", "a folder", "move it away")
    entries = (place, *(place.iterdir() if place == path else ()))
    foreign = [entry for entry in entries if not (writable or _writable)(entry)]
    if foreign:
        whose = f"{foreign[0]} is not writable for us (owner {foreign[0].lstat().st_uid}, we are {os.geteuid()})"
        own = f"sudo chown -R {os.geteuid()} {path}"
        do = own if place == path else f"point the settings at another place than {path}"
        return Finding(name, FAIL, whose, "a folder that we may write", do)
    if place != path:
        return Finding(name, WARN, f"none at {path} yet", "a folder", "made at the first start", partial(_make, path))
    return Finding(name, OK, str(path))


def _writable(path: Path) -> bool:
    return path.is_symlink() or os.access(path, os.W_OK)


def _make(path: Path) -> str:
    path.mkdir(parents=True, exist_ok=True)
    return f"made {path}"
