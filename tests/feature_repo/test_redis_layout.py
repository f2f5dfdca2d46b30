"""Our bytes are Feast's bytes."""

from datetime import UTC, datetime, timedelta

import pytest
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.redis_layout import (
    decode,
    decode_time,
    encode,
    encode_time,
    entity_key,
    feature_field,
    version,
)

TIMES = st.tuples(st.integers(0, 4 * 10**18), st.integers(0, 4 * 10**18))
INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.text(), st.sampled_from(["bitcoin_trading", "another"]))
def test_the_key_is_feasts(symbol: str, project: str) -> None:
    entity = EntityKey(join_keys=["symbol"], entity_values=[Value(string_val=symbol)])
    assert entity_key(project, "symbol", symbol) == _redis_key(project, entity, 3)


@given(st.text(), st.text())
def test_the_field_is_feasts(view: str, feature: str) -> None:
    assert feature_field(view, feature) == _mmh3(f"{view}:{feature}")


@given(st.floats(allow_nan=False))
def test_a_double_is_feasts_and_comes_back(value: float) -> None:
    data = encode(value, "double")
    assert data == Value(double_val=value).SerializeToString()
    assert decode(data, "double") == value


@given(INT64)
def test_an_integer_is_feasts_and_comes_back(value: int) -> None:
    data = encode(value, "int64")
    assert data == Value(int64_val=value).SerializeToString()
    assert decode(data, "int64") == value


@given(st.text(max_size=300))
def test_a_string_is_feasts_and_comes_back(value: str) -> None:
    data = encode(value, "string")
    assert data == Value(string_val=value).SerializeToString()
    assert decode(data, "string") == value


@given(st.binary(max_size=300))
def test_bytes_are_feasts_and_come_back(value: bytes) -> None:
    data = encode(value, "bytes")
    assert data == Value(bytes_val=value).SerializeToString()
    assert decode(data, "bytes") == value


@given(st.integers(0, 4 * 10**15))
def test_an_event_time_is_feasts_and_comes_back(at_us: int) -> None:
    stamp = Timestamp()
    stamp.FromDatetime(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us))
    assert encode_time(at_us) == stamp.SerializeToString()
    assert decode_time(encode_time(at_us)) == at_us * 1000


def test_null_is_the_empty_message() -> None:
    assert encode(None, "double") == Value().SerializeToString() == b""
    assert decode(b"", "double") is None
    assert decode(None, "double") is None


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a double value"):
        decode(encode(7, "int64"), "double")


@given(TIMES, TIMES)
def test_versions_sort_as_their_times_do_in_microseconds(a: tuple[int, int], b: tuple[int, int]) -> None:
    def in_micros(times: tuple[int, int]) -> tuple[int, int]:
        return times[0] // 1000, -(-times[1] // 1000)

    assert (version(*a) < version(*b)) == (in_micros(a) < in_micros(b))
