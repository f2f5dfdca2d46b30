"""Messages: every fact that crosses a process boundary, stated once as a frozen, strict class.

From these classes are derived the Avro schemas, Spark schemas, JSON Schema, OpenAPI and TypeScript
types (`feature_repo.derive`). Nothing else in the product spells a message field's type.

    >>> trade = Trade(symbol="BTCUSDT", ts_event=1, ts_init=2, source="recording", session="s",
    ...               trade_id=7, price=61837.63, quantity=0.02, buyer_is_maker=True)
    >>> trade.price
    61837.63

Times are integer nanoseconds UTC. `ts_event` is when it happened at the venue, `ts_init` when we made
the message, both on the venue's clock. Prices are in quote currency, quantities in base currency.

Errors of the product (one tree)::

    CandlewickError
    ├── InvalidMessage      a message that its contract refuses: dead-lettered with its reason
    ├── UnknownSchema       a fingerprint no committed schema has: dead-lettered
    ├── StaleBook           the local order book lost its sequence: resync, publish nothing
    ├── VenueRefused        the venue answered with an error, a ban or a region block
    ├── StoreUnavailable    Redis, the lake or the registry cannot be reached
    └── ModelRefused        an artefact whose checksum, features or schema do not match
        └── FeaturesDiffer  whole, but it reads what is declared no longer, or otherwise than in its training
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

NANOS = 1_000_000_000
SECOND_NS = NANOS
MINUTE_NS = 60 * NANOS
HOUR_NS = 3_600 * NANOS
DAY_NS = 86_400 * NANOS
AHEAD_S = 10.0
"""What says it happened further ahead of the clock than this is not believed."""

Source = Literal["live", "recording", "simulated"]
Provenance = Literal["live", "backfill", "reconcile"]
Severity = Literal["info", "warning", "critical"]
ChangeWindow = Literal["10s", "1m", "1h", "24h"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Nanos = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
SYMBOL_PATTERN = r"^[A-Z0-9][A-Z0-9.\-]{1,39}$"
Symbol = Annotated[str, Field(pattern=SYMBOL_PATTERN)]
Label = Annotated[str, Field(max_length=200)]


class CandlewickError(Exception):
    """Root of every error the product raises on purpose."""


class InvalidMessage(CandlewickError, ValueError):
    """A message its contract refuses."""


class UnknownSchema(CandlewickError, ValueError):
    """A message whose schema name or fingerprint nobody here knows."""


class StaleBook(CandlewickError):
    """The local order book lost its sequence and must be built again."""


class VenueRefused(CandlewickError):
    """The venue answered with an error, a ban or a region block."""


class StoreUnavailable(CandlewickError):
    """Redis, the lake or the registry cannot be reached."""


class ModelRefused(CandlewickError, ValueError):
    """A model artefact whose checksum, features or schema do not match."""


class FeaturesDiffer(ModelRefused):
    """A whole artefact that reads a feature which is not here, or not as it was in training."""


class Message(BaseModel):
    """Frozen and strict: an unknown field or a wrong type is refused at the door."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, ser_json_bytes="base64", val_json_bytes="base64",
        protected_namespaces=(),
    )


class MarketMessage(Message):
    """What every market message carries to the end of its way."""

    symbol: Symbol
    ts_event: Nanos
    ts_init: Nanos
    source: Source
    session: Label


class BookState(Message):
    """The order book's last state in a second, as features need it. Unknown is null, never zero.

    `*_quantity_N` is the sum of the best N levels; `*_depth_Nbps` the quantity within N basis points
    of the mid price; `order_flow_imbalance` the sum over the second of Cont, Kukanov and Stoikov's
    best-level contributions e_n (base currency).
    """

    book_valid: bool = False
    bid_price: Positive | None = None
    bid_quantity: Positive | None = None
    ask_price: Positive | None = None
    ask_quantity: Positive | None = None
    bid_quantity_5: NonNegative | None = None
    ask_quantity_5: NonNegative | None = None
    bid_quantity_10: NonNegative | None = None
    ask_quantity_10: NonNegative | None = None
    bid_quantity_20: NonNegative | None = None
    ask_quantity_20: NonNegative | None = None
    bid_depth_10bps: NonNegative | None = None
    ask_depth_10bps: NonNegative | None = None
    bid_depth_25bps: NonNegative | None = None
    ask_depth_25bps: NonNegative | None = None
    order_flow_imbalance: Finite | None = None


BOOK_FIELDS = tuple(BookState.model_fields)


class Trade(MarketMessage):
    """One trade. Identity: (symbol, trade_id). `ts_event` is the venue's trade time."""

    trade_id: Count
    price: Positive
    quantity: Positive
    buyer_is_maker: bool
    late: bool = False


class SecondClosed(MarketMessage, BookState):
    """Ingest's seal: the second [close − 1 s, close) is complete and has `n_trades` trades.

    Identity: (symbol, close); the first one wins. `ts_event` equals `close`. The bar is closed when
    the seal and its n distinct trade ids are there. `prev_close` is the seal before, null at the
    first; a reader that does not stand at `prev_close` has met a hole or a reordering.
    """

    close: Nanos
    prev_close: Nanos | None
    n_trades: Count
    first_trade_id: Count | None
    last_trade_id: Count | None


class Bar(MarketMessage, BookState):
    """OHLCV of one interval, labelled by its close (exclusive). Identity: (symbol, interval_s, close_time, created).

    `ts_event` equals `close_time`. Dense: a second without trades carries the close with volume 0.
    It holds the trades of [open_time, close_time). `taker_buy_volume` is null where the source does not
    tell (a kline without it).
    """

    interval_s: Literal[1, 60]
    open_time: Nanos
    close_time: Nanos
    open: Positive
    high: Positive
    low: Positive
    close: Positive
    volume: NonNegative
    quote_volume: NonNegative
    vwap: Positive
    trades: Count
    taker_buy_volume: NonNegative | None
    first_trade_id: Count | None = None
    last_trade_id: Count | None = None
    created: Nanos
    provenance: Provenance = "live"


class PriceLevels(Message):
    """One side of a book, best first: prices and quantities of equal length."""

    prices: Annotated[list[Positive], Field(max_length=20)]
    quantities: Annotated[list[Positive], Field(max_length=20)]


class OrderBook(MarketMessage):
    """Top 20 levels, cumulative depth, and 1-bp bins to ±30 bps around `mid_price`, from the full local book.

    `bid_bins[i]` is the quantity between i and i + 1 bps below the mid price; null where the local
    book does not reach that far. Identity: (symbol, last_update_id, session).
    """

    last_update_id: Count
    mid_price: Positive
    bids: PriceLevels
    asks: PriceLevels
    bid_depth_5bps: NonNegative | None
    ask_depth_5bps: NonNegative | None
    bid_depth_10bps: NonNegative | None
    ask_depth_10bps: NonNegative | None
    bid_depth_25bps: NonNegative | None
    ask_depth_25bps: NonNegative | None
    bid_bins: Annotated[list[NonNegative | None], Field(min_length=30, max_length=30)]
    ask_bins: Annotated[list[NonNegative | None], Field(min_length=30, max_length=30)]


class FeatureRow(MarketMessage):
    """Every feature of one symbol at one second's close. Identity: (symbol, ts_event, created).

    `values` has every name of `FEATURES`; null where it cannot be known, with the reason in `reasons`.
    `price` is the bar's close. `created` is when the row became known, deterministic.
    """

    created: Nanos
    provenance: Provenance = "live"
    feature_set: Label
    price: Positive
    values: dict[str, Finite | None]
    reasons: dict[str, str]


class MarketSummary(MarketMessage):
    """One symbol at one second's close, for a table of many. Identity: (symbol, ts_event, created).

    `average_1m` is the mean of the last 60 second closes; volatilities are the feature row's, per square-root
    minute. A `change_*` is price / the close so long before − 1; for 1 h and 24 h that of the last whole minute
    closed by then. `move_10s` is the change from that close of the last ten seconds which lies furthest from the
    price, `moved` whether it exceeds 2 %; `alert_since` is the `window_start` of the alert firing for it.
    What cannot be known is null with its reason.
    """

    created: Nanos
    provenance: Provenance = "live"
    price: Positive
    average_1m: Positive | None
    volatility_1m: NonNegative | None
    volatility_5m: NonNegative | None
    change_10s: Finite | None
    change_1m: Finite | None
    change_1h: Finite | None
    change_24h: Finite | None
    move_10s: Finite | None
    moved: bool | None
    alert_since: Nanos | None
    volume_1m: NonNegative | None
    quote_volume_1m: NonNegative | None
    reasons: dict[str, str]


class Prediction(MarketMessage):
    """One answer of the model. Identity: (model_version, symbol, ts_event).

    `ts_event` is the as-of second, `created` the feature row's. Volatilities are realised volatility
    per square-root minute over the next h minutes (`definitions`: RV_h), not annualised. At tier 5
    everything forecast is null and `reasons` says why. `nowcast` is true between whole minutes.
    `row_hash` and `sequence_hash` (`feature_repo.proof`) name the bits of the row and of the model's input that the
    published answer was made from; null where there was none. `should_trade` and `expected_edge_bps` are of a trade of
    one minute, those with `15m` of one of 15 minutes; that edge is null where the model gives none.
    """

    created: Nanos
    model: Label
    model_version: Label
    feature_set: Label
    horizon_s: Count
    price: Positive | None
    p_up: Probability | None
    p_flat: Probability | None
    signal: Annotated[float, Field(ge=-1, le=1)] | None
    confidence: Annotated[float, Field(ge=0.5, le=1)] | None
    volatility_5m: Positive | None
    volatility_15m: Positive | None
    volatility_60m: Positive | None
    volatility_15m_low: Positive | None
    volatility_15m_high: Positive | None
    spike_prob: Probability | None
    risk_score: Probability | None
    anomaly_score: Probability | None
    expected_edge_bps: Finite | None
    cost_bps: Finite | None
    should_trade: bool
    nowcast: bool
    tier: Annotated[int, Field(ge=1, le=5)]
    reasons: list[str]
    row_hash: Label | None = None
    sequence_hash: Label | None = None
    expected_edge_15m_bps: Finite | None = None
    should_trade_15m: bool = False


class Alert(MarketMessage):
    """One alert. Identity: (rule, symbol, window_start). `ts_event` is the end of the window."""

    rule: Label
    severity: Severity
    window_start: Nanos
    state: Literal["firing", "resolved"]
    value: Finite | None
    threshold: Finite | None
    summary: Annotated[str, Field(max_length=2000)]


MARKET = "MARKET"
"""The symbol of an observation that is of no one instrument."""


class Observation(MarketMessage):
    """One value of a slow series as a provider told it. Identity: (symbol, series, instrument, ts_event, created).

    `symbol` is a perpetual contract's id, or `MARKET`; `instrument` the provider's own name of what it told, such as
    `SPY`. `ts_event` is the time that the value describes, `created` when it became known: `ts_init`, or of a
    backfilled one `ts_event` + the series' declared lag. `value` in the series' unit. `stale`: said again because
    nothing newer was to be had; its value and `ts_event` are those of the last good one.
    """

    series: Label
    provider: Label
    instrument: Label
    created: Nanos
    provenance: Provenance = "live"
    value: Finite
    stale: bool = False


class DeadLetter(Message):
    """A message that could not be used, kept exactly as it came with the reason."""

    ts_init: Nanos
    component: Label
    reason: Label
    detail: Annotated[str, Field(max_length=2000)]
    topic: Label | None
    symbol: Label | None
    payload: bytes


class FollowedSymbol(Message):
    """Whether an instrument is followed from now on. Identity: symbol; the last word counts."""

    symbol: Symbol
    ts_init: Nanos
    followed: bool


class MissingTrades(MarketMessage):
    """The trades that the raw history lacks and that are still to be fetched. Identity: symbol; the last word counts.

    Ids `first_ids[i]` to `last_ids[i]`, both included, ascending; empty: none. `ts_event` is when it was said.
    """

    first_ids: list[Count]
    last_ids: list[Count]


class SymbolState(Message):
    """One followed instrument as a service sees it. `starting`: no row yet; `stale`: the row is over a minute old."""

    symbol: Symbol
    base: Label
    state: Literal["starting", "ready", "stale"]
    tier: Annotated[int, Field(ge=1, le=5)]
    feature_age_s: NonNegative | None
    source: Source | None
    session: Label | None


class SymbolList(Message):
    """What `GET /symbols` answers: the followed instruments, the settings' first."""

    symbols: list[SymbolState]


class PredictRequest(Message):
    """What `POST /predict` takes: a symbol, or explicit fields beside it that override the newest row.

    `timestamp` is the as-of time, integer nanoseconds UTC. `vwap` and `price` in quote currency,
    `volatility` per square-root minute, `imbalance` in [−1, 1], `momentum` log returns by window.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, protected_namespaces=())

    symbol: Symbol
    timestamp: Nanos | None = None
    price: Positive | None = None
    vwap: Positive | None = None
    volatility: NonNegative | None = None
    imbalance: Annotated[float, Field(ge=-1, le=1)] | None = None
    momentum: Annotated[dict[str, Finite], Field(max_length=16)] | None = None


class Movers(Message):
    """The symbols that rose and fell most over one window, at most five each, the greatest change first."""

    window: ChangeWindow
    up: list[Symbol]
    down: list[Symbol]


class Market(Message):
    """Every followed symbol's newest summary, by symbol, as known at `ts`. `source` is null where they differ."""

    ts: Nanos
    source: Source | None
    summaries: list[MarketSummary]
    movers: list[Movers]


class LiveStatus(Message):
    """The service's own word about the state of the market data, once a second on `/live`."""

    ts: Nanos
    source: Source | None
    session: Label | None
    symbol: Symbol
    last_event_age_ms: NonNegative | None
    feature_age_ms: NonNegative | None
    tier: Annotated[int, Field(ge=1, le=5)]
    model_version: Label | None
    feature_ages_ms: dict[str, NonNegative | None]


class LiveSnapshot(Message):
    """The first message of `/live`: enough to draw the page. Bars ascending by close, one a second."""

    type: Literal["snapshot"] = "snapshot"
    sequences: dict[str, Count]
    bars: list[Bar]
    books: list[OrderBook]
    features: FeatureRow | None
    prediction: Prediction | None
    status: LiveStatus
    market: Market


class LiveUpdate(Message):
    """One change on `/live`. `sequence` is the Kafka offset of the channel's topic (status: a counter; market, which
    is of all symbols: the sum over the topic's partitions).

    A jump means that the reader was too slow and was moved to the newest; it need not ask again.
    """

    type: Literal["bar", "book", "features", "prediction", "status", "market"]
    sequence: Count
    data: Bar | OrderBook | FeatureRow | Prediction | LiveStatus | Market


WIRE_MESSAGES: tuple[type[Message], ...] = (
    Trade, SecondClosed, OrderBook, Bar, FeatureRow, MarketSummary, Prediction, Alert, DeadLetter, FollowedSymbol,
    MissingTrades, Observation,
)
API_MESSAGES: tuple[type[Message], ...] = (
    *WIRE_MESSAGES, PredictRequest, SymbolList, Market, LiveStatus, LiveSnapshot, LiveUpdate,
)
