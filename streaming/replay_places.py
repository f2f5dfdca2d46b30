"""Replay places: what a replay needs, the name and the note by which it is found again, and how it is removed.

    $ candlewick replay --list
    $ candlewick replay --remove 20261126t200000-600s

A note is written before anything else of the replay, so that whatever a killed one made can be found and removed.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from feature_repo import topics
from feature_repo.contracts import SECOND_NS, StoreUnavailable
from feature_repo.settings import REPLAYS, Settings
from feature_repo.store import FeatureStore
from streaming.lake import LakeWriter
from streaming.stretch import Stretch

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,49}")
NOTE = "replay.json"
REACH_S = 5.0


def check_reachable(settings: Settings) -> None:
    """Raises `StoreUnavailable` that says which of Kafka and Redis does not answer, and how to start them."""
    host, port = settings.kafka.split(",")[0].rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except OSError as error:
        raise StoreUnavailable(f"Kafka expected at {settings.kafka}, found {error}; `make up` starts it") from error
    try:
        FeatureStore.open(settings).version("")
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{error}; `make up` starts it") from error


def kept(settings: Settings) -> list[dict[str, Any]]:
    """The notes of what replays have left, oldest name first."""
    return [json.loads(path.read_text()) for path in sorted((settings.run_dir / REPLAYS).glob(f"*/{NOTE}"))]


def remove(settings: Settings, name: str) -> dict[str, Any]:
    """Delete everything of a replay: topics, online keys, lake prefix, checkpoints. Raises `ValueError` without one."""
    notes = {note["name"]: note for note in kept(settings)}
    if name not in notes:
        raise ValueError(f"--remove: expected one of {', '.join(notes) or 'no replay at all'}; found {name!r}")
    check_reachable(settings)
    own = replace(settings, namespace=name)
    doomed = topics.delete_topics(own.kafka, topics.prefix(name))
    keys = FeatureStore.open(own).forget(notes[name]["symbols"])
    writer = LakeWriter.open(own.lake, own.s3_endpoint)
    with suppress(FileNotFoundError):
        writer.filesystem.delete_dir(writer.root)
    shutil.rmtree(_folder(own))
    return {"removed": name, "topics": len(doomed), "keys": keys, "lake": own.lake}


def free_name(settings: Settings, asked: str, stretch: Stretch) -> str:
    """The name asked for, or one made of the stretch. Raises `ValueError` for one that is taken or cannot be."""
    taken = {note["name"] for note in kept(settings)}
    if asked:
        if not NAME.fullmatch(asked) or asked in taken:
            raise ValueError(
                f"--name: expected a new one of a-z, 0-9 and -, at most 50; found {asked!r}; "
                f"taken: {', '.join(sorted(taken)) or 'none'}"
            )
        return asked
    begins = datetime.fromtimestamp(stretch.start_ns // SECOND_NS, UTC)
    stem = f"{begins:%Y%m%dt%H%M%S}-{(stretch.end_ns - stretch.start_ns) // SECOND_NS}s"
    return next(name for n in count(1) if (name := stem if n == 1 else f"{stem}-{n}") not in taken)


def _folder(settings: Settings) -> Path:
    return settings.checkpoints.parent


def write_note(settings: Settings, note: Mapping[str, Any]) -> None:
    """Write the note of the replay whose settings these are."""
    path = _folder(settings) / NOTE
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(note))
    partial.replace(path)
