"""Schemas: whether what is derived, and what a running stack holds, still is what the code here says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from feature_repo.settings import Settings
from infra.stack.doctor.finding import FAIL, OK, UNKNOWN, WARN, Finding

MISSING = "missing"


def derived(_settings: Settings) -> Iterator[Finding]:
    """Committed copies of the contract. Renewing them changes the working copy, which is a person's decision."""
    from feature_repo import derive

    differing = [path.name for path in derive.stale()]
    if differing:
        expected = "files equal to what the contracts give"
        yield Finding("derived files", FAIL, f"{', '.join(differing)} differ", expected, "make generate")
    else:
        yield Finding("derived files", OK, f"{len(derive.copies())} equal their source")


def topics(settings: Settings) -> Iterator[Finding]:
    """The broker's topics against the wanted ones."""
    from feature_repo.topics import compare_topics
    from feature_repo.topics import topics as wanted
    from infra.stack import kafka

    if not kafka.ready(settings):
        yield Finding("topics", UNKNOWN, f"no broker answers at {settings.kafka}; looked at while the stack runs")
        return
    yield compared(settings, len(wanted(settings.symbols)), compare_topics(settings.kafka, wanted(settings.symbols)))


def compared(settings: Settings, count: int, differing: Mapping[str, str]) -> Finding:
    """The finding about topics. Missing ones can be made; changing one that has messages could lose them."""
    missing = [name for name, how in differing.items() if how == MISSING]
    if not differing:
        return Finding("topics", OK, f"{count} with their settings")
    found = "; ".join(f"{name}: {how}" for name, how in differing.items())
    expected = f"{count} topics with their settings"
    if missing:
        return Finding("topics", FAIL, found, expected, "make topics", partial(_create, settings))
    do = "alter them with Kafka's tools if nothing is lost by it, or make clean, which deletes this machine's state"
    return Finding("topics", WARN, found, expected, do)


def _create(settings: Settings) -> str:
    from feature_repo.topics import create_topics
    from feature_repo.topics import topics as wanted

    done = create_topics(settings.kafka, wanted(settings.symbols))
    return f"created {', '.join(name for name, how in done.items() if how == 'created') or 'none'}"


def registry(settings: Settings) -> Iterator[Finding]:
    """Feast's registry carries the hash of the definitions it was made from."""
    from feature_repo.views import definitions_hash

    if not settings.registry.exists():
        yield Finding("feature registry", UNKNOWN, "none yet; the running stack makes it")
    elif definitions_hash().encode() in settings.registry.read_bytes():
        yield Finding("feature registry", OK, "made from the definitions here")
    else:
        do = "make down, then make up: each start applies the definitions"
        yield Finding("feature registry", WARN, "made from other definitions", f"definitions {definitions_hash()}", do)


def checkpoints(settings: Settings) -> Iterator[Finding]:
    """The stream's state is bound to its layout: another layout's is not read, but made again from the topic."""
    from streaming.symbol_stream import layout_hash

    yield layouts(settings.run_dir / "checkpoints", f"hot-{layout_hash()}")


def layouts(folder: Path, current: str) -> Finding:
    """The finding about the checkpoints of one run folder."""
    held = sorted(path.name for path in folder.glob("hot-*"))
    if not held:
        return Finding("checkpoints", OK, "none yet")
    if current not in held:
        do = "nothing is lost: the next start reads the trades topic from its beginning, which takes a while"
        return Finding("checkpoints", WARN, f"state of another layout: {', '.join(held)}", current, do)
    if old := [name for name in held if name != current]:
        do = f"no longer read; remove {', '.join(str(folder / name) for name in old)} when no older version will run"
        return Finding("checkpoints", WARN, f"{current}, and {len(old)} of other layouts", f"{current} alone", do)
    return Finding("checkpoints", OK, current)
