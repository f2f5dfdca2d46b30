"""Bench: frames mutated by the million: what is refused, what is accepted, and that refusing leaves no trace.

    candlewick bench mutate --frames 1000000 --seed 1 --json

A simulated market's frames go through ingest's own path, each amid broken copies of itself (`STRUCTURAL`), some with
another value within the range of the possible (`VALUES`). A second ingest, the reference, is given the same frames
without the broken ones. Every broken frame must become a dead letter with a reason, no other may, and both ingests must
publish the same messages byte for byte and end with the same book. Seeded: the same frames each time.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import psutil

from feature_repo.contracts import DeadLetter, Message, SecondClosed
from feature_repo.topics import encode
from streaming.backfill import Span
from streaming.clock import VenueClock
from streaming.ingest import Ingest, IngestConfig
from streaming.ingest_metrics import IngestMetrics
from streaming.simulator import simulate
from streaming.venue_link import VenueLink
from streaming.venues.binance import MOST_BYTES, snapshot
from streaming.venues.binance_rest import Identity, RestClient

SYMBOL = "BTCUSDT"
BEGIN_NS = (1_704_067_200 - 5) * 1_000_000_000
BROKEN_PER_FRAME = 4
VALUE_SHARE = 0.2
MOST_RSS_GROWTH_MB = 50.0
WARM_UP = 0.1
"""Share of the frames after which memory is first looked at."""
FOREVER_S = 10**7

Body = dict[str, Any]
Dice = random.Random
USED: Mapping[str, tuple[str, ...]] = {
    "trade": ("e", "E", "s", "t", "p", "q", "T", "m"), "depth": ("e", "E", "s", "U", "u", "b", "a"),
    "bookTicker": ("u", "s", "b", "B", "a", "A"),
}
"""Fields that must be there, by the kind of stream."""
INTEGERS = ("E", "T", "t", "U", "u")
NO_INTEGERS = (
    None, True, False, "7", "", 1.5, -1, 2**63, 10**30, [], [1], {}, "NaN",
)
NO_DECIMALS = (
    None, True, 0, 7, 1.5, [], {}, "", ".", "NaN", "nan", "Infinity", "-Infinity", "-1", "+1", "1e5", "0x10", " 1",
    "1 ", "1_000", "1,5", "1.2.3", "\u0663", "\uff11", "1." + "1234567890" * 4, "1234567890" * 4, "0.123456789",
    "1" * 14, "\x00", "\ud800", "9" * 5_000,
)
NO_SYMBOLS = (
    None, 7, True, [], {}, "", "btcusdt", "WRONGUSDT", "BTCUSDT ", "\ud800", "BTC\x00USDT", "../BTCUSDT", "A" * 999,
)
NO_FLAGS = (None, 0, 1, "true", "", [], {})
NO_LEVELS = (
    None, 7, "12", {}, {"12": "1"}, [["1"]], [["1", "2", "3"]], ["12"], [[1, 2]], [{"0": "1", "1": "2"}], [None], [[]],
    [["0.00000000", "1"]], [["NaN", "1"]], [["1", "-1"]], [["1", "1e3"]], [["5", "1"], ["5", "2"]], [[["5"], "1"]],
)


# --- broken frames ---


def _kind(body: Body) -> str:
    return str(body["stream"]).partition("@")[2].partition("@")[0]


def _dumps(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _wrong(name: str, kind: str) -> tuple[Any, ...]:
    """What a field must not be."""
    if name in INTEGERS:
        return NO_INTEGERS
    if name in ("b", "a") and kind == "depth":
        return NO_LEVELS
    return {"s": NO_SYMBOLS, "m": NO_FLAGS, "e": (None, 7, "", "kline", [])}.get(name, NO_DECIMALS)


def _wrong_field(dice: Dice, body: Body) -> bytes:
    kind = _kind(body)
    name = dice.choice(USED[kind])
    return _dumps(body | {"data": body["data"] | {name: dice.choice(_wrong(name, kind))}})


def _lacking_field(dice: Dice, body: Body) -> bytes:
    name = dice.choice(USED[_kind(body)])
    return _dumps(body | {"data": {key: value for key, value in body["data"].items() if key != name}})


def _repeated_field(dice: Dice, body: Body) -> bytes:
    name = dice.choice(USED[_kind(body)])
    text = json.dumps(body["data"], separators=(",", ":"))
    again = json.dumps({name: body["data"][name]}, separators=(",", ":"))[1:]
    return f'{{"stream":{json.dumps(body["stream"])},"data":{text[:-1]},{again}}}'.encode()


def _other_time(dice: Dice, body: Body) -> bytes:
    """Microseconds, seconds, an hour off: of the time by which the frame counts. A bookTicker has none."""
    name = {"trade": "T", "depth": "E"}.get(_kind(body))
    if name is None:
        return _wrong_field(dice, body)
    time_ms = body["data"][name]
    others = (time_ms * 1_000, time_ms // 1_000, time_ms * 1_000_000, time_ms + 3_600_000, time_ms - 60_000, 0)
    return _dumps(body | {"data": body["data"] | {name: dice.choice(others)}})


def _no_price(dice: Dice, body: Body) -> bytes:
    kind, data = _kind(body), body["data"]
    if kind == "trade":
        changes = {dice.choice("pq"): dice.choice(("0", "0.00000000"))}
    elif kind == "depth":
        changes = {"U": data["u"] + 1} if dice.random() < 0.5 else {"b": [["0.00000000", "1.00000000"], *data["b"]]}
    else:
        changes = {"b": data["a"], "a": data["b"]} if dice.random() < 0.5 else {"b": "0.00000000"}
    return _dumps(body | {"data": data | changes})


def _envelope(dice: Dice, body: Body) -> bytes:
    data, stream = body["data"], body["stream"]
    symbol, _, kind = stream.partition("@")
    return _dumps(dice.choice((
        {"stream": stream}, {"data": data}, data, {"stream": None, "data": data}, {"stream": 7, "data": data},
        {"stream": "", "data": data}, {"stream": symbol, "data": data}, {"stream": f"{symbol}@kline_1m", "data": data},
        {"stream": f"ethusdt@{kind}", "data": data}, {"stream": stream.upper(), "data": data},
        {"stream": [stream], "data": data}, {"stream": stream, "data": None}, {"stream": stream, "data": [data]},
        {"stream": stream, "data": json.dumps(data)}, {"stream": stream, "data": {}}, [body], "x", 7, None, True, [],
        {}, {"result": None, **body, "stream": 7}, {"event": {"e": "other"}},
    )))


def _other_rules(dice: Dice, body: Body) -> bytes:
    """A USD-M diff on a spot stream, or the payload of one stream on another."""
    symbol, _, kind = body["stream"].partition("@")
    if kind.startswith("depth") and dice.random() < 0.5:
        return _dumps(body | {"data": body["data"] | {"pu": body["data"]["U"] - 1, "T": body["data"]["E"]}})
    other = dice.choice([name for name in ("trade", "depth@100ms", "bookTicker") if name != kind])
    return _dumps(body | {"stream": f"{symbol}@{other}"})


def _torn(dice: Dice, body: Body) -> bytes:
    text = _dumps(body)
    return text[: dice.randrange(len(text))]


def _bytes_amiss(dice: Dice, body: Body) -> bytes:
    text, at = _dumps(body), dice.randrange(1, 10)
    return text[:at] + dice.choice((b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\x00", b"\x80", b"\xf8\x88")) + text[at:]


def _no_json(dice: Dice, body: Body) -> bytes:
    text = _dumps(body)
    return dice.choice((
        text + text, text + b"}", b"\xef\xbb\xbf" + text, text.replace(b'"', b"'"), text[:-1] + b",}", b"", b" ",
        text.decode().encode("utf-16"), text.replace(b":", b"=", 1), b"<html>502 Bad Gateway</html>",
        text.replace(b'"data":', b'"data":NaN,"x":', 1), bytes(dice.randrange(256) for _ in range(40)),
    ))


def _deep(dice: Dice, body: Body) -> bytes:
    depth = dice.choice((2_000, 20_000, 100_000))
    opened, closed = dice.choice((("[", "]"), ('{"a":', "}")))
    inside = opened * depth + ("1" if opened != "[" else "") + closed * depth
    return f'{{"stream":{json.dumps(body["stream"])},"data":{inside}}}'.encode()


def _huge(dice: Dice, body: Body) -> bytes:
    return _dumps(body | {"data": body["data"] | {"pad": "x" * (MOST_BYTES + dice.randrange(1, 1_000))}})


STRUCTURAL: Mapping[str, tuple[int, Callable[[Dice, Body], bytes]]] = {
    "wrong field": (400, _wrong_field), "lacking field": (100, _lacking_field), "repeated field": (60, _repeated_field),
    "other time": (80, _other_time), "no price, ids that cross": (60, _no_price), "envelope": (100, _envelope),
    "other rules": (40, _other_rules), "torn": (60, _torn), "bytes amiss": (50, _bytes_amiss),
    "no JSON": (50, _no_json), "deep": (1, _deep), "huge": (1, _huge),
}
"""Name → weight and the broken copy of a frame."""


# --- other values, all possible ---


def _scaled(dice: Dice, text: str) -> str:
    return f"{float(text) * dice.uniform(0.999, 1.001):.8f}" if float(text) > 0.01 else text


def _other_amounts(dice: Dice, data: Body) -> Body:
    """Another price or quantity of a trade, other quantities of levels; what is removed stays removed."""
    if "p" in data:
        name = dice.choice("pq")
        return data | {name: _scaled(dice, data[name])}
    if isinstance(data["b"], str):
        return data | {"B": _scaled(dice, data["B"])}
    return data | {side: [[price, _scaled(dice, quantity)] for price, quantity in data[side]] for side in ("b", "a")}


def _other_moment(dice: Dice, data: Body) -> Body:
    return data | {name: data[name] + dice.randrange(-40, 40) for name in ("E", "T") if name in data}


def _new_fields(dice: Dice, data: Body) -> Body:
    return data | {f"z{dice.randrange(10**9)}": dice.choice((1, None, "x", [1, {}], {"deep": [[[]]]}))}


def _other_order(dice: Dice, data: Body) -> Body:
    return {name: data[name] for name in dice.sample(list(data), len(data))}


VALUES = (_other_amounts, _other_moment, _new_fields, _other_order)


# --- well-formed, and at the ends of every range ---

AMOUNTS = ("9999999999999.99999999", "0.00000001", "1", "0.5", "9999999999999")


def wild(dice: Dice, body: Body) -> bytes:
    """A frame of which some fields are well-formed and absurd: it may be refused or believed, never a crash."""
    kind, data = _kind(body), dict(body["data"])
    for name in dice.sample(list(data), dice.randrange(1, 4)):
        if name in ("t", "u", "U"):
            data[name] = dice.choice((0, 1, 2**62, 2**63 - 1, data[name] + dice.randrange(-50, 50), data[name] + 10**6))
        elif name in ("E", "T"):
            data[name] += dice.randrange(-9_900, 9_900)
        elif name in ("b", "a") and kind == "depth":
            data[name] = [
                [f"{dice.uniform(1, 1e5):.2f}" if dice.random() < 0.5 else dice.choice(AMOUNTS),
                 dice.choice((*AMOUNTS, "0.00000000"))] for _ in range(dice.randrange(30))]
        elif name in ("p", "q", "b", "B", "a", "A"):
            data[name] = dice.choice(AMOUNTS)
    return _dumps(body | {"data": data})


# --- the run ---


class Case(NamedTuple):
    """One frame to be given: whether it is broken, and by what; `now` is the venue's time."""

    payload: bytes
    broken: str | None
    now: int


def cases(frames: int, seed: int) -> Iterator[Case]:
    """Broken frames, so many, and the sound ones they are copies of, in random order within each group."""
    dice, left = Dice(seed), frames
    names, weights = list(STRUCTURAL), [weight for weight, _ in STRUCTURAL.values()]
    for line in simulate(SYMBOL, seed, BEGIN_NS, FOREVER_S):
        body = json.loads(line.text)
        if "lastUpdateId" in body:
            yield Case(line.text.encode(), None, line.receive_ns)
            continue
        chosen = dice.choices(names, weights, k=min(left, BROKEN_PER_FRAME))
        group = [Case(STRUCTURAL[name][1](dice, body), name, line.receive_ns) for name in chosen]
        sound = body
        if dice.random() < VALUE_SHARE:
            sound = body | {"data": dice.choice(VALUES)(dice, body["data"])}
        group.insert(dice.randrange(len(group) + 1), Case(_dumps(sound), None, line.receive_ns))
        yield from group
        left -= len(chosen)
        if left <= 0:
            return


@dataclass
class Digest:
    """A publisher that keeps a digest of what it is given, and counts dead letters."""

    letters: Counter[str] = field(default_factory=Counter)
    seals: int = 0
    messages: int = 0
    full: bool = False
    waiting: int = 0
    _hash: Any = field(default_factory=hashlib.sha256)

    def publish(self, topic: str, message: Message) -> None:
        if isinstance(message, DeadLetter):
            self.letters[message.reason] += 1
            return
        self.messages += 1
        self.seals += isinstance(message, SecondClosed)
        self._hash.update(topic.encode() + encode(message))

    def close(self, timeout_s: float) -> int:  # noqa: ARG002 - nothing ever waits here
        return 0

    @property
    def hex(self) -> str:
        return str(self._hash.hexdigest())


class Subject:
    """An ingest without a venue: frames are put in where its socket would give them."""

    def __init__(self) -> None:
        self.now = BEGIN_NS
        self.digest = Digest()
        origin = Identity("simulated", "mutated")
        self.link = VenueLink(
            "none", cast(Any, None), origin, VenueClock(lambda: self.now, BEGIN_NS, 0), (SYMBOL,), opened_s=0.0)
        config = IngestConfig((SYMBOL,), ("none",), "mutated")
        never_asked = RestClient((), cast(Any, None), lambda: self.now)
        self.ingest = Ingest(config, self.digest, never_asked, lambda: self.now, IngestMetrics(), {})
        self.feed = self.ingest.feeds[SYMBOL]
        self.feed.connected(origin, self.now, lambda ns: ns)
        assert self.feed.sealer.next_open is not None
        self.feed.filled(Span(None, self.feed.sealer.next_open))

    def give(self, case: Case) -> int:
        """Take a frame, or the REST snapshot. Returns how many dead letters it made."""
        self.now = max(self.now, case.now)
        before = self.digest.letters.total()
        if case.broken is None and case.payload.startswith(b'{"lastUpdateId"'):
            self.feed.on_snapshot(snapshot(json.loads(case.payload)), self.now)
        else:
            self.ingest.on_text(self.link, case.payload)
        return self.digest.letters.total() - before

    @property
    def book(self) -> tuple[Any, ...]:
        book = self.feed.book
        return book.synced, book.last_update_id, dict(book.bids), dict(book.asks)


def run(frames: int, seed: int) -> dict[str, Any]:
    """Give both ingests their frames; the report, `passed` in it."""
    subject, reference, process = Subject(), Subject(), psutil.Process()
    given, escaped, refused = Counter[str](), Counter[str](), Counter[str]()
    examples: list[str] = []
    began, rss_at_start, count = time.monotonic(), 0, 0
    crash = None
    try:
        for case in cases(frames, seed):
            letters = subject.give(case)
            count += 1
            if case.broken is None:
                reference.give(case)
                refused["sound"] += letters
            given[case.broken or "sound"] += 1
            if case.broken is not None and letters != 1:
                escaped[case.broken] += 1
                examples += [f"{case.broken}: {case.payload[:300]!r}"] if len(examples) < 10 else []
            if not rss_at_start and given.total() - given["sound"] >= WARM_UP * frames:
                rss_at_start = process.memory_info().rss
    except Exception as error:  # noqa: BLE001 - a crash is what this looks for, and is reported with its cause
        crash = f"{type(error).__name__}: {error}"
        examples.append(f"crash by {case.broken}: {case.payload[:300]!r}")
    growth_mb = (process.memory_info().rss - rss_at_start) / 2**20
    report = {
        "broken": given.total() - given["sound"], "sound": given["sound"], "frames": count, "seed": seed,
        "crash": crash, "escaped": dict(escaped), "sound_refused": refused["sound"], "examples": examples,
        "reasons": dict(subject.digest.letters), "seals": subject.digest.seals, "messages": subject.digest.messages,
        "messages_equal": subject.digest.hex == reference.digest.hex, "books_equal": subject.book == reference.book,
        "book_synced": subject.feed.book.synced, "rss_growth_mb": round(growth_mb, 1),
        "seconds": round(time.monotonic() - began, 1), "given": dict(given),
    }
    return report | {"passed": passed(report)}


def passed(report: Mapping[str, Any]) -> bool:
    """Nothing crashed or escaped, nothing sound was refused, nothing broken left a trace, memory stayed."""
    return (
        report["crash"] is None and not report["escaped"] and report["sound_refused"] == 0 and report["messages_equal"]
        and report["books_equal"] and report["book_synced"] and report["seals"] > 0
        and report["rss_growth_mb"] < MOST_RSS_GROWTH_MB
    )
