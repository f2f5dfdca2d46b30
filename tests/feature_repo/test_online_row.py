"""A row in Redis is whole or not there."""

import hiredis
import numpy as np
import pytest

from feature_repo.contracts import InvalidMessage
from feature_repo.online_row import (
    CONTEXT_FIELDS,
    PLAN,
    SLOW_FIELDS,
    OnlineContext,
    OnlineWrite,
    context_values,
    parse,
    parse_context,
    parse_slow,
    parse_version,
    row_words,
)
from feature_repo.redis_layout import encode_time, event_time_field, feature_field, version, version_field
from feature_repo.unreadable import UnreadableRow
from feature_repo.views import CONTEXT_VIEW, SEQUENCE_VIEW, services
from tests.feature_repo.made_rows import CONTEXT, made_row, made_sequence, made_write


def stored(write: OnlineWrite, *, skip: str = "") -> dict[bytes, bytes]:
    """The hash's fields after the write of every view but `skip`."""
    row, held = write.row, {}
    for view, pairs in view_values(write).items():
        if view != skip:
            held |= dict(zip(pairs[::2], pairs[1::2], strict=True))
            held[event_time_field(view)] = encode_time(row.ts_event // 1000)
            held[version_field(view)] = version(row.ts_event, row.created)
    digest = row_words(write).minutes
    if digest is not None and skip != SEQUENCE_VIEW.name:
        held[version_field(SEQUENCE_VIEW.name)] += b"." + digest.digest
    return held


def view_values(write: OnlineWrite) -> dict[str, list[bytes]]:
    """View → its fields and values in turn, as Redis takes them from the wire and the script from its arguments."""
    (views, count, framed), _, parts, _ = row_words(write)
    reader = hiredis.Reader()
    reader.feed(b"*%d\r\n" % count + framed + b"".join(parts))
    told, found = reader.gets(), {}
    heads, pairs = told[: 2 * views], told[2 * views :]
    for name, own in zip(heads[::2], map(int, heads[1::2]), strict=True):
        found[name.decode()], pairs = pairs[:own], pairs[own:]
    assert pairs == []
    return found


def reply(held: dict[bytes, bytes]) -> list[bytes | None]:
    return [held.get(field) for field in PLAN.fields]


def test_what_is_stored_is_read_back_equal() -> None:
    write = made_write(7)
    found = parse("BTCUSDT", reply(stored(write)))
    assert found is not None
    assert found.row == write.row
    assert found.sequence is not None
    assert found.sequence.tobytes() == made_sequence(7).tobytes()
    assert found.context == {CONTEXT: None}


def test_no_row_is_null() -> None:
    assert parse("BTCUSDT", [None] * len(PLAN.fields)) is None
    assert parse_version([None, None]) is None


@pytest.mark.parametrize("left_behind", ["price_features", "calendar_features"])
def test_views_of_different_seconds_are_no_row(left_behind: str) -> None:
    mixed = stored(made_write(7)) | stored(made_write(8), skip=left_behind)
    assert parse("BTCUSDT", reply(mixed)) is None


def test_a_sequence_of_another_row_is_left_out() -> None:
    newer = OnlineWrite(made_row(8), None, {})
    found = parse("BTCUSDT", reply(stored(made_write(7)) | stored(newer)))
    assert found is not None
    assert (found.row, found.sequence) == (newer.row, None)


def test_a_sequence_that_was_written_as_other_columns_is_left_out() -> None:
    held = stored(made_write(7))
    held[version_field(SEQUENCE_VIEW.name)] = held[version_field("row_state")]
    found = parse("BTCUSDT", reply(held))
    assert found is not None
    assert found.sequence is None


def test_the_minutes_of_a_sequence_are_told_once() -> None:
    write = made_write(7)
    first = row_words(write)
    again = row_words(write, first.minutes)
    assert len(b"".join(first.parts)) - len(b"".join(again.parts)) > 8 * 63 * 24
    assert (first.heads.words - again.heads.words, again.minutes) == (4, first.minutes)
    changed = made_sequence(7)
    changed[62, 0] += 1e-9
    other = row_words(OnlineWrite(write.row, changed, {}), first.minutes)
    assert other.heads == first.heads
    assert other.minutes != first.minutes


def test_the_slow_view_has_its_own_time() -> None:
    [(_, pairs)] = context_values({CONTEXT: 0.001})
    held = stored(made_write(7)) | dict(zip(pairs[::2], pairs[1::2], strict=True))
    held[event_time_field(CONTEXT_VIEW.name)] = encode_time(3_600_000_000)
    found = parse("BTCUSDT", reply(held))
    assert found is not None
    assert (found.context, found.context_ts_event) == ({CONTEXT: 0.001}, 3_600_000_000_000)


def test_a_row_without_every_feature_is_refused() -> None:
    row = made_row(0)
    short = row.model_copy(update={"values": {"return_1m": 0.0}})
    with pytest.raises(InvalidMessage, match="every feature"):
        row_words(OnlineWrite(short, None, {}))


def test_a_sequence_of_another_shape_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="shape"):
        row_words(OnlineWrite(made_row(0), np.zeros((3, 2)), {}))


def test_a_stored_field_of_another_type_is_refused_not_guessed() -> None:
    held = stored(made_write(7))
    held[feature_field("row_state", "price")] = b"\x12\x01x"
    with pytest.raises(InvalidMessage, match="BTCUSDT"):
        parse("BTCUSDT", reply(held))


def test_the_bar_service_takes_only_what_klines_give() -> None:
    taken = {name for names in services()["forecast_bar_v1"].values() for name in names}
    assert "spread_1s" not in taken
    assert "trade_imbalance_1m" not in taken
    assert {"return_1m", CONTEXT} <= taken


@pytest.mark.parametrize(("field", "data", "name", "expected"), [
    (feature_field("price_features", "return_1m"), b"\x29\x00", "price_features:return_1m", "a double value"),
    (feature_field("row_state", "created"), b"\x20\xff", "row_state:created", "a int64 value"),
    (feature_field("row_state", "reasons"), b"\x12\x01[", "row_state:reasons", "a JSON object of texts"),
    (event_time_field("row_state"), b"\x08\xff", "_ts:row_state", "a protobuf Timestamp"),
    (feature_field("volatility_context", CONTEXT), b"?", f"volatility_context:{CONTEXT}", "a double value"),
])
def test_bytes_that_do_not_decode_are_told_with_their_field_and_what_was_expected(
    field: bytes, data: bytes, name: str, expected: str,
) -> None:
    held = {**stored(made_write(7)), field: data}
    with pytest.raises(UnreadableRow, match="online row of BTCUSDT") as caught:
        parse("BTCUSDT", reply(held))
    assert (caught.value.name, caught.value.expected, caught.value.found) == (name, expected, repr(data))


def test_times_that_do_not_decode_are_no_row_that_is_missing() -> None:
    with pytest.raises(UnreadableRow, match="its times"):
        parse_version([b"\x08\xff", b"\x20\x01"])


def test_a_slow_view_that_is_torn_leaves_the_others_as_they_are() -> None:
    at = encode_time(3_600_000_000)
    held = {event_time_field("funding_features"): b"\x08\xff", event_time_field("macro_features"): at,
            version_field("macro_features"): version(3_600 * 10**9, 3_601 * 10**9),
            feature_field("macro_features", "macro_source"): b"\x12\x04live",
            feature_field("macro_features", "macro_provenance"): b"\x12\x04live",
            feature_field("macro_features", "macro_reasons"): b"\x12\x02{}"}
    found = parse_slow("BTCUSDT", [held.get(field) for field in SLOW_FIELDS])
    assert (found["open_interest"], found["fear_greed"]) == (None, None)
    torn, whole = found["funding"], found["macro"]
    assert isinstance(torn, UnreadableRow)
    assert (torn.name, torn.found) == ("_ts:funding_features", repr(b"\x08\xff"))
    assert whole is not None
    assert not isinstance(whole, UnreadableRow)
    assert (whole.ts_event, whole.created) == (3_600 * 10**9, 3_601 * 10**9)


def test_the_slow_context_is_read_alone_with_its_times() -> None:
    hour = 3_600 * 10**9
    [(_, [field, value])] = context_values({CONTEXT: 0.001})
    held = {event_time_field(CONTEXT_VIEW.name): encode_time(hour // 1000), field: value,
            version_field(CONTEXT_VIEW.name): version(hour, hour + 60 * 10**9)}
    told = [held.get(name) for name in CONTEXT_FIELDS]
    assert parse_context("BTCUSDT", told) == OnlineContext(hour, hour + 60 * 10**9, 0.001)
    assert parse_context("BTCUSDT", [None, None, None]) is None
    with pytest.raises(UnreadableRow, match="_version:volatility_context expected digits of two times"):
        parse_context("BTCUSDT", [b"no version", *told[1:]])
