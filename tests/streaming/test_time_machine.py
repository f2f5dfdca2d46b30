"""A replay sends what was, in its order and its own time, under a name of its own, and says what it cannot find."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from candlewick import app
from feature_repo.bulk_producer import BulkProducer
from feature_repo.contracts import SECOND_NS, SecondClosed, StoreUnavailable, Trade
from feature_repo.settings import Settings
from feature_repo.topics import decode, prefix, replay_topics
from streaming.recording import Line, LineWriter
from streaming.recordings import Contents, Index
from streaming.replay_places import check_reachable, free_name, kept, remove, write_note
from streaming.stretch import Record, Stretch
from streaming.time_machine import ReplayConfig, config_of, moment, publish, records_of

FIRST, LAST = moment("2024-01-01T00:00:10Z"), moment("2024-01-01T00:01:10Z")


@dataclass
class Producer(BulkProducer):
    """A producer that remembers; it refuses bodies of `refused`."""

    refused: bytes | None = None
    sent: list[Record] = field(default_factory=list)

    def add(self, topic: str, key: str | None, schema: str | None, value: bytes, timestamp_ms: int = 0) -> None:
        self.sent.append(Record(topic, key, schema, value, timestamp_ms))

    def confirm(self) -> None:
        if any(record.value == self.refused for record in self.sent):
            raise StoreUnavailable("no")


def record(topic: str, at_ms: int, body: bytes = b"x", schema: str | None = "Trade:1") -> Record:
    return Record(topic, "BTCUSDT", schema, body, at_ms)


def test_records_keep_key_schema_body_and_time_and_a_topics_time_never_goes_back() -> None:
    producer = Producer()
    counts = publish([record("a", 5), record("b", 3, b"y", None), record("a", 4)], producer, 0)
    assert counts == {"a": 2, "b": 1}
    assert producer.sent == [record("a", 5), record("b", 3, b"y", None), record("a", 5)]


@pytest.mark.parametrize(("speed", "waits"), [(0.0, []), (1.0, [1.0, 1.5]), (10.0, [0.1, 0.15])])
def test_records_are_sent_at_the_speed_asked_for(speed: float, waits: list[float]) -> None:
    now, waited = [100.0], []

    def sleep(seconds: float) -> None:
        waited.append(round(seconds, 9))
        now[0] += seconds

    publish([record("a", at) for at in (0, 1_000, 2_500)], Producer(), speed, lambda: now[0], sleep)
    assert waited == waits


def test_what_the_broker_refused_is_not_passed_over() -> None:
    with pytest.raises(StoreUnavailable):
        publish([record("a", 1), record("a", 2, b"bad"), record("a", 3)], Producer(b"bad"), 0)


def recorded(folder: Path, lines: list[Line], made_up: bool = True) -> None:
    """A folder of recordings with one file of these lines."""
    index = Index.open(folder)
    name = "spot_btcusdt_20240101T000000000000Z_000001.zst"
    found = Contents("BTCUSDT", 0, 0, "simulated" if made_up else "live", "start")
    with LineWriter(folder / name) as writer:
        for line in lines:
            writer.write(line)
            found.add_line(line)
    index.put(found.entry(name, writer.bytes, writer.sha256))


@pytest.mark.parametrize(("made_up", "source"), [(True, "simulated"), (False, "recording")])
def test_recorded_frames_of_a_stretch_are_its_seconds_alone_and_the_same_every_time(
    tmp_path: Path, simulated_frames: list[Line], made_up: bool, source: str,
) -> None:
    recorded(tmp_path, simulated_frames, made_up)
    settings = Settings(run_dir=tmp_path / "run")
    config = ReplayConfig(Stretch(FIRST, LAST, ("BTCUSDT",)), "frames", recordings=tmp_path)
    once, again = (list(records_of(settings, config)) for _ in range(2))
    assert once == again
    messages = [decode(r.value, r.schema) for r in once]
    seals = [m.close for m in messages if isinstance(m, SecondClosed)]
    assert seals == list(range(FIRST + SECOND_NS, LAST + SECOND_NS, SECOND_NS))
    trades = [m for m in messages if isinstance(m, Trade)]
    assert {FIRST <= m.ts_event < LAST for m in trades} == {True}
    assert {m.source for m in trades} == {source}
    assert [r.timestamp_ms for r in once] == sorted(r.timestamp_ms for r in once)


@pytest.mark.parametrize("source", ["raw", "frames"])
def test_a_stretch_of_which_nothing_is_known_is_said_to_be_so(tmp_path: Path, source: Any) -> None:
    settings = Settings(run_dir=tmp_path)
    with pytest.raises(ValueError, match=r"records of BTCUSDT expected in .*2024-01-01T00:00:10Z to .*found none"):
        records_of(settings, ReplayConfig(Stretch(FIRST, LAST, ("BTCUSDT",)), source, recordings=tmp_path))


def test_a_name_is_made_of_the_stretch_and_never_given_twice(tmp_path: Path) -> None:
    settings, stretch = Settings(run_dir=tmp_path), Stretch(FIRST, LAST, ("BTCUSDT",))
    names = []
    for _ in range(3):
        names.append(free_name(settings, "", stretch))
        write_note(replace(settings, namespace=names[-1]), {"name": names[-1], "symbols": ["BTCUSDT"]})
    assert names == ["20240101t000010-60s", "20240101t000010-60s-2", "20240101t000010-60s-3"]
    assert [note["name"] for note in kept(settings)] == sorted(names)
    for bad in (names[0], "../up", "A", "x" * 51):
        with pytest.raises(ValueError, match="--name: expected a new one"):
            free_name(settings, bad, stretch)
    with pytest.raises(ValueError, match="--remove: expected one of 20240101t000010-60s"):
        remove(settings, "nobody")


def test_a_replays_topics_are_none_of_the_live_ones_and_do_not_age() -> None:
    own = replay_topics("tuesday", ("BTCUSDT", "ETHUSDT"))
    assert all(topic.name.startswith(prefix("tuesday")) for topic in own)
    assert {(topic.retention_ms, topic.timestamps) for topic in own} == {(-1, "CreateTime")}
    assert "replay.tuesday.crypto.eth.trades" in {topic.name for topic in own}


def test_without_a_broker_the_error_says_how_to_start_it() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings = Settings(kafka_bootstrap=f"127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(StoreUnavailable, match=r"Kafka expected at 127.0.0.1:\d+, found .*`make up` starts it"):
            check_reachable(settings)


@pytest.mark.parametrize(("words", "message"), [
    ([], "expected --frames FILE"),
    (["--from", "2024-01-01T00:00:00Z"], "expected both --from and --to"),
    (["--from", "yesterday", "--to", "2024-01-01T00:00:00Z"], "expected a time such as"),
    (["--from", "2024-01-02", "--to", "2024-01-01"], "`from` before `to`"),
    (["--from", "2024-01-01T00:00:00.5Z", "--to", "2024-01-02"], "expected whole seconds"),
    (["--from", "2024-01-01", "--to", "2024-01-02", "--source", "rumour"], "--source: expected raw or frames"),
    (["--from", "2024-01-01", "--to", "2024-01-02", "--frames", "a.zst", "--symbol", "A", "--symbol", "B"],
     "expected files of one --symbol"),
])
def test_words_that_cannot_be_are_named(words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["replay", *words])
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


def test_frames_are_their_own_source() -> None:
    config = config_of(
        Settings(run_dir=Path("/var/candlewick")), "2024-01-01", "2024-01-02", symbols=("BTCUSDT",), source="raw",
        frames=(Path("a.zst"),), recordings=None,
    )
    assert (config.source, config.recordings) == ("frames", Path("/var/candlewick/recordings"))
