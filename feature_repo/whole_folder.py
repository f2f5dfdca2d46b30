"""Whole folder: one folder put in another's place so that the old or the new one is there, whole, whenever it stops.

    replace_folder(made, settings.model_dir)
    recover(settings.model_dir)         # by who reads it: what a replacement that was killed left, is put right

The new folder is copied beside the place (`.NAME.new`), the old one is renamed aside (`.NAME.old`), the new one is
renamed in, the old one goes. Killed between the two renamings, nothing lies in the place, and the old one is put back.
One replacement or recovery runs at a time: the folder around the place is locked.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def replace_folder(made: Path, place: Path) -> None:
    """Put a copy of `made` in `place`, which may hold a folder, be a link to one, or not exist yet."""
    place = place.resolve()
    fresh, aside = _beside(place, "new"), _beside(place, "old")
    place.parent.mkdir(parents=True, exist_ok=True)
    with _alone(place.parent):
        _put_back(place, aside)
        _remove(fresh)
        _remove(aside)
        shutil.copytree(made, fresh)
        if place.exists():
            place.rename(aside)
        try:
            fresh.rename(place)
        finally:
            _put_back(place, aside)
        _remove(aside)


def recover(place: Path) -> None:
    """Put the old folder back where a replacement was killed before the new one was in its place."""
    place = place.resolve()
    aside = _beside(place, "old")
    if place.exists() or not aside.exists():
        return
    with _alone(place.parent):  # one that is still at it is waited for
        _put_back(place, aside)


def _beside(place: Path, what: str) -> Path:
    return place.with_name(f".{place.name}.{what}")


def _put_back(place: Path, aside: Path) -> None:
    if aside.exists() and not place.exists():
        aside.rename(place)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The lock goes with the process that holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
