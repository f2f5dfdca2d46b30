"""The drills' own parts: a proxy that only delays, figures that hide no skipped second, plans that repeat."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kafka.record import MemoryRecords

from feature_repo import topics
from feature_repo.contracts import SECOND_NS, Bar, SecondClosed, Trade
from feature_repo.lake_reader import Lake
from feature_repo.settings import Settings, load_settings
from infra.drill.batches import request
from infra.drill.kill import moments
from infra.drill.load import second
from infra.drill.made_market import MadeMarket
from infra.drill.proxy import slow_proxy
from infra.drill.sink import over
from infra.drill.stack import environment, own_settings
from infra.drill.watch import Watch, bars_in_lake, lake_versions, quantiles
from infra.stack import kafka
from streaming.lake import LakeWriter
from streaming.symbol_stream import COUNTS, Event, SymbolStream

BEGIN_NS = 1_723_161_300 * SECOND_NS // (60 * SECOND_NS) * 60 * SECOND_NS


@contextmanager
def served(serve: Callable[[], None]) -> Iterator[None]:
    """A server's thread, which keeps no failed test from its end."""
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(15)
    assert not thread.is_alive()


@contextmanager
def echo_server() -> Iterator[int]:
    """Answers what it is told, one client after the other."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def serve() -> None:
            for _ in range(2):
                client, _ = server.accept()
                with client:
                    while chunk := client.recv(1 << 16):
                        client.sendall(chunk)

        with served(serve):
            yield server.getsockname()[1]


@contextmanager
def swallowing_server(size: int) -> Iterator[int]:
    """Answers one client when it has sent so much."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def serve() -> None:
            client, _ = server.accept()
            with client:
                taken = 0
                while taken < size and (chunk := client.recv(1 << 16)):
                    taken += len(chunk)
                if taken >= size:
                    client.sendall(b"!")

        with served(serve):
            yield server.getsockname()[1]


def ask(port: int, words: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(words)
        answer = b""
        while len(answer) < len(words) and (chunk := client.recv(1 << 16)):
            answer += chunk
        return answer


def test_a_slow_proxy_changes_nothing_but_the_time() -> None:
    body = bytes(range(256)) * 1_000
    with echo_server() as port, slow_proxy(port) as proxy:
        assert ask(proxy.port, body) == body
        proxy.delay_s = 0.3
        began = time.monotonic()
        assert ask(proxy.port, b"PING") == b"PING"
        assert time.monotonic() - began >= 0.3


def test_a_request_is_held_back_once_however_long_it_is() -> None:
    body = bytes(1 << 22)  # several of the proxy's chunks: a socket that is read as it comes would wait at each
    with swallowing_server(len(body)) as port, slow_proxy(port) as proxy:
        proxy.delay_s = 0.3
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as client:
            client.sendall(body)
            assert client.recv(1) == b"!"
    assert proxy.held_back == 1


def test_the_swallowing_server_ends_with_a_client_that_closes_early() -> None:
    with swallowing_server(1 << 20) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"too little")


def test_a_proxy_without_its_server_closes_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        nobody = held.getsockname()[1]
    with slow_proxy(nobody) as proxy, socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        assert client.recv(1) == b""


def test_a_second_that_was_passed_over_is_as_old_as_the_newer_row_was() -> None:
    watch = Watch(lambda _symbols: {}, ("A",))
    watch.seen = {"A": {at * SECOND_NS: at * SECOND_NS + SECOND_NS // 2 for at in (10, 11, 14)}}
    assert watch.ages_ms() == [500.0, 500.0, 2_500.0, 1_500.0, 500.0]
    assert watch.ages_ms(since_ns=13 * SECOND_NS) == [1_500.0, 500.0]
    assert quantiles(watch.ages_ms())["max"] == 2_500.0


def test_every_service_is_killed_in_turn_and_a_seed_repeats_the_plan() -> None:
    names = ["redis", "kafka", "ingest"]
    plan = list(moments(9, 90.0, seed=4)(names))
    assert Counter(name for _, name in plan) == dict.fromkeys(names, 3)
    assert [at for at, _ in plan] == sorted(at for at, _ in plan)
    assert all(number * 10 <= at < number * 10 + 6 for number, (at, _) in enumerate(plan))
    assert plan == list(moments(9, 90.0, seed=4)(names))


def test_the_made_market_is_one_that_ingest_could_have_written() -> None:
    market = MadeMarket("AAAUSDT", 1, BEGIN_NS)
    records = [*market.history(3), *(record for count in (5, 0, 7) for record in market.second(count))]
    messages = [topics.decode(record.value, record.schema) for record in records]
    assert Counter(map(type, messages)) == {Bar: 3, Trade: 12, SecondClosed: 3}
    events = [Event(0, i, 0, r.topic, r.schema.decode(), r.value) for i, r in enumerate(records)]
    outputs = SymbolStream.new("AAAUSDT").apply(events)
    made = Counter(o.topic for o in outputs)
    assert (made[topics.CLEAN], made[topics.FEATURES], made[topics.DEAD_LETTERS], made[COUNTS]) == (6, 6, 0, 0)
    bars = [topics.decode(o.body, o.schema) for o in outputs if o.topic == topics.CLEAN][3:]
    assert [(bar.trades, bar.book_valid) for bar in bars] == [(5, True), (0, True), (7, True)]  # type: ignore[attr-defined]


def test_a_second_of_load_is_sent_as_it_happens_and_sealed_at_last() -> None:
    markets = [MadeMarket(symbol, 1, BEGIN_NS) for symbol in ("AAAUSDT", "BBBUSDT")]
    *trades, seals = second(markets, BEGIN_NS, 7)
    assert [due.at for due in trades] == sorted(due.at for due in trades)
    assert all(BEGIN_NS < due.at <= BEGIN_NS + SECOND_NS < seals.at for due in trades)
    assert (seals.closes, seals.rate) == (BEGIN_NS + SECOND_NS, 7)
    records = [record for due in (*trades, seals) for record in sent(request(due.batches))]
    assert Counter(record.key for record in records) == {b"AAAUSDT": 8, b"BBBUSDT": 8}
    last = [topics.decode(record.value, dict(record.headers)["schema"]) for record in records[-2:]]
    assert all(isinstance(message, SecondClosed) for message in last)


def sent(body: bytes) -> Iterator[Any]:
    """The records in a Produce request, read by kafka-python."""
    at = 4 + 10 + 4 + 12
    while at < len(body):
        (name,) = struct.unpack_from(">h", body, at)
        _, _, length = struct.unpack_from(">iii", body, at + 2 + name)
        at += 2 + name + 12
        for found in MemoryRecords(body[at : at + length]):
            assert found.validate_crc()
            yield from found
        at += length


def test_a_drills_settings_are_its_own_and_reach_its_children(tmp_path: Path) -> None:
    own = own_settings(tmp_path, symbols=("AAAUSDT", "BBBUSDT"), redis_url="redis://127.0.0.1:9/0")
    assert load_settings(environment(own)) == replace(own, data_dir=own.data_dir.resolve())
    assert not set(vars(own.ports).values()) & set(vars(Settings().ports).values())


def test_a_broker_without_room_says_what_to_do_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka, "FREE_MB", 10**9)
    with pytest.raises(ValueError, match=r"expected 1000000000 MB free for .*kafka, found \d+; delete"):
        kafka.prepare(Settings(run_dir=tmp_path))
    assert list((tmp_path / "kafka").iterdir()) == []


FLAT = {"first_third": 800, "last_third": 820, "max": 830}
QUICK: dict[str, Any] = {
    "memory_mb": FLAT, "lag_s": {"usual": 6.0, "max": 90.0, "at_end": 90.0}, "lag_back_s": 20.0, "speed": 4.7,
    "held_back": 900, "drained_s": 2.0, "bars_missing": 0, "trades_missing": 0,
}


@pytest.mark.parametrize(("changed", "parts"), [
    ({}, []),
    ({"speed": None}, []),
    ({"memory_mb": {**FLAT, "last_third": 921}}, ["memory"]),
    ({"speed": 2.9}, ["lag"]),
    ({"held_back": 0}, ["slow"]),
    ({"lag_back_s": None, "speed": 1.0}, ["lag", "lag"]),
    ({"drained_s": None, "bars_missing": 3}, ["end", "dropped"]),
])
def test_a_slow_stores_verdict_names_every_bar_that_was_missed(changed: dict[str, Any], parts: list[str]) -> None:
    assert [line.split(":")[0] for line in over(QUICK | changed)] == parts


def test_the_lakes_newest_bars_are_seen_as_rediss_are(tmp_path: Path) -> None:
    writer = LakeWriter.open(f"file://{tmp_path}")
    market = MadeMarket("AAAUSDT", 1, BEGIN_NS)
    bars = [topics.decode(record.value, record.schema) for record in market.history(3)]
    writer.upsert("clean", bars)
    now, lake = BEGIN_NS + SECOND_NS, Lake.open(f"file://{tmp_path}")
    assert lake_versions(lake, lambda: now)(("AAAUSDT", "BBBUSDT")) == {"AAAUSDT": (BEGIN_NS,), "BBBUSDT": None}
    assert bars_in_lake(lake, ("AAAUSDT",), 0, now) == ({"AAAUSDT": 3}, {"AAAUSDT": 2_700})
