"""Answers: from the online store and a model to a prediction, remembered until the row changes.

    answers = Answers(AsyncReader.open(settings), chosen, clock, metrics, RowWatch(settings.redis, symbols))
    prediction_json = await answers.plain("BTCUSDT")

A plain answer is a pure function of (row version, model, context, tier), so the model runs once a row. Whether there
is a new row Redis tells the watch in the moment of the write; while the watch hears nothing, each request reads the
version by one tiny HMGET (those that arrive together share it), and the whole row only when the version is new. The
age of the row is judged at every request, so that nothing old can pass for fresh whatever fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from bentos.champion import Chosen
from bentos.explicit import check_momentum, is_explicit, override
from bentos.fallback import SAFE_MODE, Decision, Evidence, decide
from bentos.metrics import ServingMetrics
from bentos.predictor import Outputs, forecast, safe_mode
from bentos.sequence import Floats, masked_share, with_newest
from bentos.shared_call import SharedCall
from feature_repo.context import CONTEXT_FEATURE
from feature_repo.contracts import (
    AHEAD_S,
    NANOS,
    FeatureRow,
    InvalidMessage,
    Prediction,
    PredictRequest,
    Source,
    StoreUnavailable,
)
from feature_repo.store import OnlineRow
from feature_repo.views import CONTEXT_TTL_S

Clock = Callable[[], int]
Version = tuple[int, int]


class Reader(Protocol):
    """The two online reads that serving needs; `feature_repo.store.AsyncReader` has them."""

    async def read(self, symbol: str) -> OnlineRow | None: ...

    async def version(self, symbol: str) -> Version | None: ...


class Watch(Protocol):
    """Says whether a row changed since it was read; `feature_repo.row_watch.RowWatch` does."""

    def is_unchanged(self, symbol: str) -> bool: ...

    def change(self, symbol: str) -> int: ...

    def has_read(self, symbol: str, change: int) -> None: ...


@dataclass
class Held:
    """The newest row of a symbol, what the model says to it, and the answers made from it by tier."""

    online: OnlineRow
    masked: float | None
    outputs: Outputs | None = None
    body: dict[int, str] = field(default_factory=dict)

    @property
    def version(self) -> Version:
        return self.online.row.ts_event, self.online.row.created


class Answers:
    """Predictions for the service's routes. Lives in one event loop."""

    def __init__(
        self, reader: Reader, chosen: Chosen, clock: Clock, metrics: ServingMetrics, watch: Watch,
    ) -> None:
        self.chosen, self.clock = chosen, clock
        self._reader, self._metrics, self._watch = reader, metrics, watch
        self.origin: Callable[[str], tuple[Source, str]] = unknown_origin
        """Source and session of a symbol's market data, for an answer without a row."""
        self._held: dict[str, Held] = {}
        self._version = SharedCall(reader.version)
        self._store_fault: str | None = None

    def held(self, symbol: str) -> Held | None:
        """What was last read of a symbol, however old."""
        return self._held.get(symbol)

    def forget(self, symbol: str) -> None:
        """A symbol is followed no longer."""
        self._held.pop(symbol, None)

    async def plain(self, symbol: str) -> str:
        """The prediction for the newest row, as JSON."""
        held = await self._newest(symbol)
        decision = self._decide(held)
        self._metrics.predicted(decision.tier)
        if decision.tier == SAFE_MODE or held is None:
            return self._refusal(symbol, held, decision).model_dump_json()
        body = held.body.get(decision.tier)
        if body is None:
            body = held.body[decision.tier] = self._forecast(held, decision).model_dump_json()
        return body

    async def requested(self, request: PredictRequest) -> str:
        """The prediction a request asks for, as JSON. Raises `ValueError` for what can never be answered."""
        if request.timestamp is None and not is_explicit(request):
            return await self.plain(request.symbol)
        self._check(request)
        held = await self._newest(request.symbol)
        decision = self._as_of(request, held, self._decide(held))
        self._metrics.predicted(decision.tier)
        if decision.tier == SAFE_MODE or held is None:
            return self._refusal(request.symbol, held, decision).model_dump_json()
        return self._explicit(held, request, decision).model_dump_json()

    async def tier(self, symbol: str) -> int:
        """The tier a request would be answered with now; asks the store whatever the watch says."""
        return self._decide(await self._ask(symbol)).tier

    async def look(self, symbol: str) -> tuple[float | None, str | None]:
        """Age in seconds of the row that the store holds now (None: none), and why the store cannot be read."""
        held = await self._ask(symbol)
        return self.age_s(held), self._store_fault

    def age_s(self, held: Held | None) -> float | None:
        """Venue clock minus the row's `ts_event`."""
        return None if held is None else (self.clock() - held.online.row.ts_event) / NANOS

    def _check(self, request: PredictRequest) -> None:
        check_momentum(request)
        ahead_s = ((request.timestamp or 0) - self.clock()) / NANOS
        if ahead_s > AHEAD_S:
            raise ValueError(f"timestamp: expected at most now, found {ahead_s:.0f} s ahead; send nanoseconds UTC")

    async def _newest(self, symbol: str) -> Held | None:
        """The newest row, without asking when it is known to be the one held."""
        return self._held.get(symbol) if self._watch.is_unchanged(symbol) else await self._ask(symbol)

    async def _ask(self, symbol: str) -> Held | None:
        """The newest row by the store's own word; a fault of the store is remembered for the decision."""
        held = self._held.get(symbol)
        change = self._watch.change(symbol)
        try:
            version = await self._version(symbol)
            self._store_fault = None
            if version is None:
                held = None
                self._held.pop(symbol, None)
            elif held is None or held.version != version:
                held = await self._read(symbol)
            self._watch.has_read(symbol, change)
        except (StoreUnavailable, InvalidMessage) as error:
            self._store_fault = str(error)
        return held

    async def _read(self, symbol: str) -> Held | None:
        online = await self._reader.read(symbol)
        if online is None:
            return None
        held = self._held.get(symbol)
        if held is None or held.version != (online.row.ts_event, online.row.created):
            masked = None if online.sequence is None else masked_share(online.sequence, self.chosen.columns)
            held = self._held[symbol] = Held(online, masked)
        return held

    def _decide(self, held: Held | None) -> Decision:
        masked = None if held is None else held.masked
        return decide(Evidence(self.age_s(held), masked, self.chosen.fault, self._store_fault))

    def _as_of(self, request: PredictRequest, held: Held | None, decision: Decision) -> Decision:
        """Safe mode for a time before the newest row: the online store knows only the present."""
        if request.timestamp is None or held is None or request.timestamp >= held.online.row.ts_event:
            return decision
        behind_s = (held.online.row.ts_event - request.timestamp) / NANOS
        reason = f"timestamp is {behind_s:.1f} s before the newest row; only the present can be asked here"
        return Decision(SAFE_MODE, (*decision.reasons, reason))

    def _forecast(self, held: Held, decision: Decision) -> Prediction:
        now_ns = self.clock()
        if held.outputs is None:
            assert held.online.sequence is not None, "the tier needs a sequence"
            held.outputs = self._run(held.online.sequence, risk_threshold(held.online, now_ns))
        return self._prediction(held.online.row, held.outputs, decision, now_ns)

    def _explicit(self, held: Held, request: PredictRequest, decision: Decision) -> Prediction:
        """The newest row with the request's fields in it, through the model; remembered by nobody."""
        now_ns = self.clock()
        assert held.online.sequence is not None, "the tier needs a sequence"
        asked = override(held.online.row, request)
        outputs = self._run(with_newest(held.online.sequence, asked.row.values), risk_threshold(held.online, now_ns))
        explained = Decision(decision.tier, (*decision.reasons, *asked.reasons))
        return self._prediction(asked.row, outputs, explained, now_ns)

    def _run(self, sequence: Floats, threshold: float | None) -> Outputs:
        assert self.chosen.artefact is not None, "the tier needs a model"
        with self._metrics.inference.time():
            return self.chosen.artefact.run(sequence, threshold)

    def _prediction(self, row: FeatureRow, outputs: Outputs, decision: Decision, now_ns: int) -> Prediction:
        assert self.chosen.artefact is not None, "the tier needs a model"
        return forecast(row, outputs, self.chosen.artefact.facts, decision, now_ns)

    def _refusal(self, symbol: str, held: Held | None, decision: Decision) -> Prediction:
        facts = self.chosen.artefact.facts if self.chosen.artefact else None
        source, session = self.origin(symbol)
        row = held.online.row if held else None
        return safe_mode(symbol, row, facts, decision, self.clock(), source=source, session=session)


def unknown_origin(_symbol: str) -> tuple[Source, str]:
    """Nothing was seen of the symbol: whatever never enters training or the track record."""
    return "simulated", ""


def risk_threshold(online: OnlineRow, now_ns: int) -> float | None:
    """The volatility percentile that risk is measured against; unknown when it was not renewed for a day."""
    known_at = online.context_ts_event
    if known_at is None or now_ns - known_at > CONTEXT_TTL_S * NANOS:
        return None
    return online.context.get(CONTEXT_FEATURE)
