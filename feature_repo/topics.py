"""Topics: the only door to Kafka outside Spark, and the codec of what travels through it.

The body is raw Avro, the header `schema` is `<name>:<fingerprint>` (the 64-bit Rabin fingerprint of the
schema's canonical form, in hex). A reader knows every committed schema by that header, those before the last change too
(`schemas/avro/earlier`): what was written before an upgrade is read with the defaults of what it lacks.

    >>> from feature_repo.contracts import Trade
    >>> trade = Trade(symbol="BTCUSDT", ts_event=1, ts_init=2, source="recording", session="s",
    ...               trade_id=7, price=1.5, quantity=2.0, buyer_is_maker=True)
    >>> decode(encode(trade), header(trade)) == trade
    True
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

from feature_repo.avro_writer import Write, writer
from feature_repo.contracts import WIRE_MESSAGES, DeadLetter, InvalidMessage, Message, UnknownSchema
from feature_repo.derive import SCHEMAS, avro_schema

SCHEMA_HEADER = "schema"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MOST_PAYLOAD = 64 * 1024
"""Bytes that a dead letter keeps of what could not be used."""


@dataclass(frozen=True)
class Topic:
    """One topic and its settings. `retention_ms` −1 keeps for ever."""

    name: str
    partitions: int = 1
    retention_ms: int = 7 * DAY_MS
    cleanup: Literal["delete", "compact"] = "delete"
    timestamps: Literal["LogAppendTime", "CreateTime"] = "LogAppendTime"


CLEAN, FEATURES, PREDICTIONS = "crypto_clean", "crypto_features", "crypto_predictions"
ANALYTICS, ALERTS, DEAD_LETTERS = "crypto_analytics", "crypto_alerts", "crypto_dlq"
STREAMED = (CLEAN, FEATURES, ANALYTICS, ALERTS, DEAD_LETTERS)
"""The topics that the stream writes."""
MACRO, FEAR_GREED = "macro.feed", "sentiment.fear_greed"
SYMBOLS = "symbols.latest"
"""The last word on each instrument: followed or not."""
MISSING = "missing.latest"
"""The last word on each instrument's trades that the raw history lacks."""
_SLOW_PER_BASE = {"funding_rate": "funding", "open_interest": "open_interest"}
_QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD", "EUR", "BTC", "ETH", "BNB")


def base(symbol: str) -> str:
    """The base asset in lower case, as topics and lake folders use it.

    >>> base("BTCUSDT"), base("BTC-USD-PERP.STANDX"), base("ETHBTC")
    ('btc', 'btc', 'eth')
    """
    pair = symbol.partition(".")[0].partition("-")[0]
    quote = next((q for q in _QUOTES if pair.endswith(q) and pair != q), "")
    return pair[: len(pair) - len(quote)].lower()


def trades_topic(symbol: str) -> str:
    """Trades, seals and backfilled bars of one base: everything the hot query's state is made of, in order."""
    return f"crypto.{base(symbol)}.trades"


def order_book_topic(symbol: str) -> str:
    return f"crypto.{base(symbol)}.orderbook"


def slow_topic(series: str, symbol: str) -> str:
    """Where observations of a slow series go.

    >>> slow_topic("funding_rate", "BTCUSDT-PERP.BINANCE"), slow_topic("sp500", "MARKET")
    ('crypto.btc.funding', 'macro.feed')
    """
    if series in _SLOW_PER_BASE:
        return f"crypto.{base(symbol)}.{_SLOW_PER_BASE[series]}"
    return FEAR_GREED if series == "fear_greed" else MACRO


def is_slow(topic: str) -> bool:
    """Whether a topic carries observations of slow series."""
    return topic in (MACRO, FEAR_GREED) or topic.rpartition(".")[2] in _SLOW_PER_BASE.values()


def topic_base(topic: str) -> str:
    """The base asset in a topic's name; several symbols may share it.

    >>> topic_base("crypto.btc.trades")
    'btc'
    """
    return topic.split(".")[1]


def prefix(namespace: str) -> str:
    """What the broker's names of a replay's topics begin with; everything above the broker knows the plain names.

    >>> prefix("tuesday") + CLEAN, prefix("") + CLEAN
    ('replay.tuesday.crypto_clean', 'crypto_clean')
    """
    return f"replay.{namespace}." if namespace else ""


def replay_topics(namespace: str, symbols: tuple[str, ...]) -> tuple[Topic, ...]:
    """The topics of a replay, under the broker's names. They keep the records' own times, so that nothing ages."""
    assert namespace, "the live topics are not a replay's"
    per_symbol = [name for symbol in symbols for name in (trades_topic(symbol), order_book_topic(symbol))]
    return tuple(
        Topic(prefix(namespace) + name, retention_ms=-1, timestamps="CreateTime")
        for name in sorted({*per_symbol, *STREAMED})
    )


def topics(symbols: tuple[str, ...], partitions: int = 1) -> tuple[Topic, ...]:
    """Every topic of a deployment that follows `symbols`, with its settings."""
    bases = sorted({base(symbol) for symbol in symbols})
    per_base = [
        topic
        for b in bases
        for topic in (
            Topic(f"crypto.{b}.trades", partitions),
            Topic(f"crypto.{b}.orderbook", partitions, DAY_MS),
            Topic(f"crypto.{b}.funding", partitions, 30 * DAY_MS),
            Topic(f"crypto.{b}.open_interest", partitions, 30 * DAY_MS),
            Topic(f"crypto.{b}.liquidations", partitions, 30 * DAY_MS),
        )
    ]
    shared = [
        Topic(CLEAN, partitions), Topic(FEATURES, partitions), Topic(PREDICTIONS, partitions),
        Topic(ANALYTICS, partitions, DAY_MS),
        Topic(ALERTS, 1, 30 * DAY_MS), Topic(DEAD_LETTERS, 1, 30 * DAY_MS),
        Topic("crypto_prices"), Topic("crypto_raw"), Topic(MACRO, 1, 30 * DAY_MS),
        Topic("news.raw", 1, 30 * DAY_MS), Topic("sentiment.raw", 1, 30 * DAY_MS),
        Topic(FEAR_GREED, 1, 30 * DAY_MS), Topic(SYMBOLS, 1, -1, "compact"),
        Topic(MISSING, 1, -1, "compact"),
    ]
    return (*per_base, *shared)


def header(message: Message | type[Message]) -> str:
    """The value of the `schema` header: `<name>:<fingerprint>`."""
    kind = message if isinstance(message, type) else type(message)
    return f"{kind.__name__}:{fingerprint(kind)}"


def headers(message: Message | type[Message]) -> list[tuple[str, bytes]]:
    """Kafka headers of a message."""
    return [(SCHEMA_HEADER, header(message).encode())]


@cache
def fingerprint(kind: type[Message]) -> str:
    """64-bit Rabin fingerprint (Avro specification) of the schema's parsing canonical form, hex."""
    import fastavro.schema as avro

    return str(avro.fingerprint(avro.to_parsing_canonical_form(avro_schema(kind)), "CRC-64-AVRO"))


@cache
def parsed_schema(kind: type[Message]) -> Any:
    import fastavro.schema as avro

    return avro.parse_schema(avro_schema(kind))


class Written(NamedTuple):
    """What a header says of a body: its message, and the parsed schema that it was written with."""

    kind: type[Message]
    schema: Any


@cache
def known_schemas() -> Mapping[str, Written]:
    """Header value → what was written, for every wire message of today and of before."""
    import fastavro.schema as avro

    earlier = {}
    for path in sorted((SCHEMAS / "avro" / "earlier").glob("*.avsc")):
        name, _, mark = path.stem.partition("-")
        kind = next(kind for kind in WIRE_MESSAGES if kind.__name__ == name)
        earlier[f"{name}:{mark}"] = Written(kind, avro.parse_schema(json.loads(path.read_text())))
    return {**earlier, **{header(kind): Written(kind, parsed_schema(kind)) for kind in WIRE_MESSAGES}}


def encode(message: Message) -> bytes:
    """A message as a raw Avro body."""
    return _writer(type(message))(message)


@cache
def _writer(kind: type[Message]) -> Write:
    return writer(avro_schema(kind))


def decode(body: bytes, schema: str | bytes | None) -> Message:
    """The message in a body. Raises `UnknownSchema` for a header nobody knows, `InvalidMessage` for a bad body."""
    import fastavro

    written = known_schemas().get(schema.decode("ascii", "replace") if isinstance(schema, bytes) else schema or "")
    if written is None:
        raise UnknownSchema(f"expected a schema header of {', '.join(sorted(known_schemas()))}; found {schema!r}")
    kind, source = written.kind, io.BytesIO(body)
    try:
        record = fastavro.schemaless_reader(source, written.schema, parsed_schema(kind))
        if source.tell() != len(body):
            raise InvalidMessage(f"{kind.__name__}: {len(body) - source.tell()} bytes left over after the record")
        return kind.model_validate(record)
    except InvalidMessage:
        raise
    except Exception as error:  # fastavro raises many kinds on a damaged body; all mean the same here
        raise InvalidMessage(f"{kind.__name__}: {type(error).__name__}: {error}") from error


def dead_letter(
    payload: bytes, error: Exception | str, *, component: str, ts_init: int,
    topic: str | None = None, symbol: str | None = None,
) -> DeadLetter:
    """The dead letter of a payload that could not be used: the reason is the error's class.

    A payload beyond `MOST_PAYLOAD` is cut, and the detail says how large it was: a letter that the broker refuses
    would hold up everything behind it.
    """
    reason = error if isinstance(error, str) else type(error).__name__
    cut = f"[the first {MOST_PAYLOAD} of {len(payload)} bytes] " if len(payload) > MOST_PAYLOAD else ""
    # What was found may be told in code units that are no text.
    detail = f"{cut}{error}"[:2000].encode("utf-8", "backslashreplace").decode()
    return DeadLetter(
        ts_init=ts_init, component=component, reason=reason, detail=detail[:2000], topic=topic,
        symbol=symbol, payload=payload[:MOST_PAYLOAD],
    )


def producer(bootstrap: str, client_id: str, linger_ms: int = 2, namespace: str = "") -> Any:
    """A Kafka producer with acks=all and idempotence. Send with `send`; topics are those of the namespace."""
    from kafka import KafkaProducer

    class Producer(KafkaProducer):  # type: ignore[misc]
        def send(self, topic: str, *given: Any, **more: Any) -> Any:
            return super().send(prefix(namespace) + topic, *given, **more)

    return Producer(
        bootstrap_servers=bootstrap.split(","), client_id=client_id, acks="all", enable_idempotence=True,
        linger_ms=linger_ms, compression_type=None, max_request_size=4 * 1024 * 1024,
        # The default of 16 kB holds eight feature rows: behind a backlog most of the time went into requests.
        batch_size=256 * 1024,
        # The default waits up to 30 s before it notices that the broker is back.
        reconnect_backoff_max_ms=1_000,
    )


def send(to: Any, topic: str, message: Message, key: str | None = None) -> Any:
    """Queue a message under its symbol as the key; returns the producer's future."""
    key = key or getattr(message, "symbol", None) or ""
    return to.send(topic, key=key.encode(), value=encode(message), headers=headers(message))


def record_schema(record_headers: Any) -> bytes | None:
    """The schema header of a consumed record, if it has one."""
    return next((value for name, value in record_headers or () if name == SCHEMA_HEADER), None)


def create_topics(bootstrap: str, wanted: tuple[Topic, ...]) -> dict[str, str]:
    """Create what is missing, with its settings. Returns topic → created | kept."""
    from kafka.admin import KafkaAdminClient, NewTopic

    admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","), client_id="candlewick-topics")
    try:
        present = set(admin.list_topics())
        missing = [topic for topic in wanted if topic.name not in present]
        if missing:
            admin.create_topics([
                NewTopic(topic.name, topic.partitions, 1, topic_configs=_configs(topic)) for topic in missing
            ])
        return {topic.name: "kept" if topic.name in present else "created" for topic in wanted}
    finally:
        admin.close()


def compare_topics(bootstrap: str, wanted: tuple[Topic, ...]) -> dict[str, str]:
    """Topic → how it differs from what is wanted: `missing`, or its settings. Empty when all are as they should be."""
    from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","), client_id="candlewick-doctor")
    try:
        present = set(admin.list_topics())
        held = [topic for topic in wanted if topic.name in present]
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in held]
        configs = admin.describe_configs(asked, config_filter="all").get("topic", {}) if held else {}
        partitions = {
            found["name"]: len(found["partitions"]) for found in admin.describe_topics([topic.name for topic in held])
        } if held else {}
    finally:
        admin.close()
    differing = {topic.name: "missing" for topic in wanted if topic.name not in present}
    for topic in held:
        values = {name: str(value["value"]) for name, value in configs[topic.name].items()}
        if differs := _differences(topic, partitions[topic.name], values):
            differing[topic.name] = differs
    return differing


def _differences(topic: Topic, partitions: int, configs: Mapping[str, str]) -> str:
    """How a topic on the broker differs from what is wanted, in words.

    >>> _differences(Topic("a", 2), 1, {**_configs(Topic("a")), "retention.ms": "5"})
    'partitions: expected 2, found 1; retention.ms: expected 604800000, found 5'
    """
    expected = {"partitions": str(topic.partitions), **_configs(topic)}
    found = {"partitions": str(partitions), **configs}
    return "; ".join(
        f"{name}: expected {value}, found {found.get(name)}"
        for name, value in expected.items() if found.get(name) != value
    )


def delete_topics(bootstrap: str, starting_with: str) -> list[str]:
    """Delete the topics whose broker's names begin so. Returns their names."""
    from kafka.admin import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","), client_id="candlewick-topics")
    try:
        doomed = sorted(name for name in admin.list_topics() if name.startswith(starting_with))
        if doomed:
            admin.delete_topics(doomed)
        return doomed
    finally:
        admin.close()


def _configs(topic: Topic) -> dict[str, str]:
    return {
        "retention.ms": str(topic.retention_ms), "cleanup.policy": topic.cleanup,
        "message.timestamp.type": topic.timestamps,
    }
