"""Packs hold every record as it came, by its key, in its order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.packs import Records, pack, unpack
from streaming.symbol_stream import Event

KEYS = st.one_of(st.none(), st.sampled_from([b"", b"BTCUSDT", b"ETHUSDT", b"\xff\xfe"]))
RECORD = st.tuples(
    st.integers(0, 2**41), KEYS, st.one_of(st.none(), st.sampled_from([b"Trade:1", b"\xff"])), st.binary(max_size=40))


def records(partition: int, first: int, made: list[tuple[int, bytes | None, bytes | None, bytes]]) -> Records:
    times_ms, keys, schemas, bodies = (list(column) for column in zip(*made, strict=True))
    return Records(partition, list(range(first, first + len(made))), times_ms, keys, schemas, bodies)


def text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


@settings(deadline=None)
@given(st.lists(RECORD, min_size=1, max_size=30), st.integers(0, 2**60))
def test_every_record_is_in_the_pack_of_its_key_as_it_came(
    made: list[tuple[int, bytes | None, bytes | None, bytes]], first: int,
) -> None:
    expected: dict[str, list[Event]] = {}
    for place, (time_ms, key, schema, body) in enumerate(made):
        event = Event(3, first + place, time_ms * 1_000_000, "crypto.btc.trades", text(schema), body)
        expected.setdefault(text(key) or "", []).append(event)
    packs = pack(records(3, first, made))
    assert {key: unpack([("crypto.btc.trades", *packed)]) for key, packed in packs.items()} == expected


def test_packs_of_several_partitions_and_batches_come_by_partition_and_offset() -> None:
    def packed(partition: int, first: int) -> tuple[str, int, int, bytes]:
        return "crypto.btc.trades", *pack(records(partition, first, [(1, b"BTCUSDT", None, b"x")] * 2))["BTCUSDT"]

    events = unpack([packed(1, 0), packed(0, 12), packed(0, 10)])
    assert [(event.partition, event.offset) for event in events] == [(0, 10), (0, 11), (0, 12), (0, 13), (1, 0), (1, 1)]
