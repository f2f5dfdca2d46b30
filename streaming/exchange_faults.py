"""Faults on request: what the exchange does wrong, declared as data, applied to frames, sockets and answers; pure.

    >>> connection = ConnectionFaults()
    >>> connection.add(parse({"fault": "gap", "symbol": "BTCUSDT", "stream": "depth", "count": 2}), now_s=0.0)
    >>> [connection.on_frame("btcusdt@depth@100ms", text, now_s=0.1) for text in ("a", "b", "c")]
    [[], [], ['c']]

A fault hits the connections that are open when it is declared, each for itself; a new connection is sound. One fault
takes a frame at most. Time is an argument: seconds of any clock that does not go back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streaming.exchange_mutations import MUTATIONS, Payload, shifted

Seconds = Annotated[float, Field(gt=0, le=3_600, allow_inf_nan=False)]
MOST_ACTIVE = 1_000
"""Faults of one connection at a time; the oldest give way."""

FRAME = frozenset({"symbol", "stream", "count"})
PARAMETERS: Mapping[str, frozenset[str]] = {
    "gap": FRAME, "duplicate": FRAME, "reorder": FRAME, "silence": frozenset({"symbol", "stream", "seconds"}),
    **dict.fromkeys(MUTATIONS, FRAME), "clock_jump": FRAME | {"shift_ms"},
    "half_open": frozenset({"seconds"}), "no_pongs": frozenset({"seconds"}), "reset": frozenset(), "cut": frozenset(),
    "server_shutdown": frozenset({"seconds"}), "refuse_connections": frozenset({"seconds"}),
    "slow_snapshot": frozenset({"seconds", "count"}), "stale_snapshot": frozenset({"seconds", "count"}),
    "status": frozenset({"status", "endpoint", "count", "seconds"}),
}
"""Every fault and the parameters that it reads; others are refused."""
SERVER = frozenset({"refuse_connections", "slow_snapshot", "stale_snapshot", "status"})
"""Faults of the exchange as a whole; the others are of connections."""
DEEDS = frozenset({"half_open", "reset", "cut", "server_shutdown"})
"""Faults that are done to a connection at once."""
LASTING = PARAMETERS.keys() - SERVER - DEEDS
"""Faults that a connection keeps until they are used up or over: of frames, and `no_pongs`."""
NEEDED: Mapping[str, frozenset[str]] = {
    "refuse_connections": frozenset({"seconds"}), "slow_snapshot": frozenset({"seconds"}),
    "stale_snapshot": frozenset({"seconds"}), "status": frozenset({"status"}),
}
"""Parameters that a fault cannot do without."""


class Fault(BaseModel):
    """One declaration; `PARAMETERS` says which fields a fault reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    fault: str
    symbol: Annotated[str, Field(pattern=r"^[A-Z0-9]{2,20}$")] | None = None
    """Of which symbol's streams; None: of every one."""
    stream: Literal["trade", "depth", "bookTicker"] | None = None
    """Of which kind of stream; None: of every one."""
    count: Annotated[int, Field(ge=1, le=100_000)] = 1
    """How many frames (pairs of them to reorder) or answers."""
    seconds: Seconds | None = None
    """For how long; None: until the connection ends (a silent stream also until it is asked for again)."""
    shift_ms: Annotated[int, Field(ge=-10**12, le=10**12)] = 3_600_000
    """By how much event times jump."""
    status: Annotated[int, Field(ge=400, le=599)] = 500
    """HTTP status; `seconds` is then what Retry-After says."""
    endpoint: Literal["time", "depth", "trades", "historicalTrades", "aggTrades", "klines"] = "depth"
    """Which REST endpoint has the status."""


def parse(body: object) -> Fault:
    """A declaration from its plain form. Raises `ValueError` that says what was expected."""
    if not isinstance(body, dict) or not isinstance(body.get("fault"), str):
        raise ValueError(f"expected an object with a fault of {', '.join(sorted(PARAMETERS))}; found {body!r:.100}")
    name = body["fault"]
    if name not in PARAMETERS:
        raise ValueError(f"fault: expected one of {', '.join(sorted(PARAMETERS))}; found {name!r:.60}")
    if foreign := sorted(map(str, body.keys() - PARAMETERS[name] - {"fault"})):
        raise ValueError(
            f"{name}: expected no parameter but {', '.join(sorted(PARAMETERS[name])) or 'none'}; "
            f"found {', '.join(foreign)[:100]}")
    if lacking := NEEDED.get(name, frozenset()) - body.keys():
        raise ValueError(f"{name}: expected {', '.join(sorted(lacking))}, found none")
    try:
        return Fault.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


@dataclass
class _Running:
    """A fault of one connection that is not over: how many frames it still takes, until when, what it holds back."""

    fault: Fault
    left: int
    until_s: float | None
    held: dict[str, Payload] = field(default_factory=dict)

    def is_over(self, now_s: float) -> bool:
        return self.left <= 0 or (self.until_s is not None and now_s >= self.until_s)

    def concerns(self, stream: str) -> bool:
        """Whether the fault is of that stream, as the venue names it."""
        symbol, _, kind = stream.partition("@")
        wanted = self.fault
        return (wanted.symbol is None or wanted.symbol == symbol.upper()) and (
            wanted.stream is None or wanted.stream == kind.partition("@")[0])

    def take(self, stream: str, text: str) -> list[Payload]:
        """What is sent in place of a frame."""
        name = self.fault.fault
        if name == "silence":
            return []
        if name == "reorder":
            return self._reorder(stream, text)
        self.left -= 1
        if name == "gap":
            return []
        if name == "duplicate":
            return [text, text]
        return [shifted(text, self.fault.shift_ms) if name == "clock_jump" else MUTATIONS[name](text)]

    def _reorder(self, stream: str, text: str) -> list[Payload]:
        if stream not in self.held:
            self.held[stream] = text
            return []
        self.left -= 1
        return [text, self.held.pop(stream)]


class ConnectionFaults:
    """The faults of one connection."""

    def __init__(self) -> None:
        self._running: list[_Running] = []

    def add(self, fault: Fault, now_s: float) -> None:
        """Begin a fault of `LASTING`."""
        until_s = None if fault.seconds is None else now_s + fault.seconds
        going = [running for running in self._running if not running.is_over(now_s)]
        self._running = [*going, _Running(fault, fault.count, until_s)][-MOST_ACTIVE:]

    def on_frame(self, stream: str, text: str, now_s: float) -> list[Payload]:
        """What is sent in place of a frame: text, or bytes that are sent as text though they are none."""
        if not self._running:
            return [text]
        self._running = [running for running in self._running if not running.is_over(now_s)]
        for running in self._running:
            if running.fault.fault != "no_pongs" and running.concerns(stream):
                return running.take(stream, text)
        return [text]

    def on_subscribe(self, streams: Iterable[str]) -> None:
        """A stream asked for again is no longer silent."""
        names = list(streams)
        self._running = [
            running for running in self._running
            if running.fault.fault != "silence" or not any(map(running.concerns, names))
        ]

    def is_on(self, name: str, now_s: float) -> bool:
        """Whether a fault of that name lasts."""
        return any(running.fault.fault == name and not running.is_over(now_s) for running in self._running)

    def active(self, now_s: float) -> list[Fault]:
        return [running.fault for running in self._running if not running.is_over(now_s)]

    def clear(self) -> None:
        """End every fault; frames held back are lost."""
        self._running.clear()


@dataclass(frozen=True)
class AnswerFault:
    """What happens to one REST answer: it waits, tells an old book, or is refused."""

    wait_s: float = 0.0
    stale_s: float = 0.0
    status: int | None = None
    retry_after_s: int | None = None


SOUND = AnswerFault()


class ServerFaults:
    """The faults of the exchange as a whole: of REST answers and of new connections."""

    def __init__(self) -> None:
        self._answers: list[tuple[Fault, list[int]]] = []
        self._refusing_until_s = 0.0

    def add(self, fault: Fault, now_s: float) -> None:
        if fault.fault == "refuse_connections":
            self._refusing_until_s = now_s + (fault.seconds or 0.0)
        else:
            self._answers.append((fault, [fault.count]))

    def refuses(self, now_s: float) -> bool:
        """Whether new connections are refused."""
        return now_s < self._refusing_until_s

    def on_request(self, endpoint: str) -> AnswerFault:
        """What happens to the next answer of that endpoint."""
        for fault, left in self._answers:
            if endpoint == (fault.endpoint if fault.fault == "status" else "depth"):
                left[0] -= 1
                self._answers = [(other, n) for other, n in self._answers if n[0] > 0]
                return _ANSWERS[fault.fault](fault)
        return SOUND

    def active(self) -> list[Fault]:
        return [fault for fault, _ in self._answers]

    def clear(self) -> None:
        self._answers.clear()
        self._refusing_until_s = 0.0


def _status(fault: Fault) -> AnswerFault:
    retry_after_s = round(fault.seconds or 1) if fault.status in (418, 429) else None
    return AnswerFault(status=fault.status, retry_after_s=retry_after_s)


_ANSWERS: Mapping[str, Callable[[Fault], AnswerFault]] = {
    "slow_snapshot": lambda fault: AnswerFault(wait_s=fault.seconds or 0.0),
    "stale_snapshot": lambda fault: AnswerFault(stale_s=fault.seconds or 0.0),
    "status": _status,
}


def plain(fault: Fault) -> dict[str, Any]:
    """A declaration as it was made.

    >>> plain(parse({"fault": "gap", "count": 3}))
    {'fault': 'gap', 'count': 3}
    """
    return fault.model_dump(exclude_unset=True)
