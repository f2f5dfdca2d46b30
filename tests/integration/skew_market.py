"""A market of minutes through the stream, with late trades, messages sent twice and a kill; and what all of it left.

    left = streamed()                            # pure: raw records, what the stream sent, every trade of each second
    settle(left, settings)                       # into a lake and a Redis of the test's own
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bentos.artefact import load_artefact
from bentos.champion import Chosen
from bentos.publishing import answer
from feature_repo import topics
from feature_repo.contracts import SECOND_NS, Bar, FeatureRow, Message, Prediction, Trade
from feature_repo.features import FORECAST_BAR, SEQUENCE_LENGTH
from feature_repo.lake_layout import RAW_SCHEMA
from feature_repo.online_row import OnlineRow, OnlineWrite
from feature_repo.settings import Settings
from feature_repo.store import FeatureStore
from infra.drill.made_market import MadeMarket, Record
from streaming.bars import bars_from_trades
from streaming.lake import LakeWriter
from streaming.past import Past
from streaming.symbol_stream import ONLINE, Event, Output, SymbolStream, chunk_bytes, dump, load
from tests.bentos.made import made_artefact
from tests.feature_repo.made_bars import START_NS

SYMBOL, A_SECOND = "BTCUSDT", 4
SECONDS = 150
LATE_EVERY, RESENT_EVERY, SAVED, KILLED = 20, 25, 70, 80
TOPIC = topics.trades_topic(SYMBOL)


@dataclass
class Left:
    """What a run left, by where it lies."""

    seconds: int = SECONDS
    """Of the market; at least 100."""
    raw: list[Event] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    rows: list[FeatureRow] = field(default_factory=list)
    online: list[OnlineRow] = field(default_factory=list)
    mirrors: dict[int, Any] = field(default_factory=dict)
    """Close of an online row → its mirror keys' values."""
    trades: list[Trade] = field(default_factory=list)
    """Late ones too."""

    @property
    def late_closes(self) -> set[int]:
        return {at.ts_event // SECOND_NS * SECOND_NS + SECOND_NS for at in self.trades if at.late}

    def until(self, close: int) -> Left:
        """The part up to a close, raw as it lay then."""
        return Left(
            self.seconds,
            [e for e in self.raw if e.timestamp_ns <= close], [b for b in self.bars if b.close_time <= close],
            [r for r in self.rows if r.ts_event <= close], [o for o in self.online if o.row.ts_event <= close],
            {at: values for at, values in self.mirrors.items() if at <= close},
            [t for t in self.trades if t.ts_event < close],
        )

    def past(self) -> Past:
        """Every trade's second, as a venue tells it afterwards."""
        bars = bars_from_trades(self.trades, START_NS, START_NS + self.seconds * SECOND_NS)
        return Past("files", tuple(bar for bar in bars if bar.trades))


def streamed(seconds: int = SECONDS) -> Left:
    """The run: killed after its 80th second, with its state saved at the 70th."""
    left = Left(seconds)
    batches = list(_batches(left))
    stream = SymbolStream.new(SYMBOL)
    chunks: dict[tuple[int, int], bytes] = {}
    for second, batch in enumerate(batches):
        if second == SAVED:
            chunks = {chunk: chunk_bytes(stream, chunk) for chunk in stream.changed}
            saved, position = dump(stream), stream.position
        if second == KILLED:
            stream = load(SYMBOL, position, saved, chunks)
            again = [event for one in batches[SAVED:KILLED] for event in one]
            _keep(left, stream.apply(again))
        _keep(left, stream.apply(batch))
    return left


def _batches(left: Left) -> Iterator[list[Event]]:
    market = MadeMarket(SYMBOL, 7, START_NS)
    yield _events(left, market.history(1_570), START_NS)
    for second in range(1, left.seconds + 1):
        opened = START_NS + (second - 1) * SECOND_NS
        records = list(market.second(A_SECOND if second % 9 else 0))
        if second % RESENT_EVERY == 0:
            records += records[-2:]
        if second % LATE_EVERY == 0:
            [late] = market.trades(opened, 1)
            told = topics.decode(late.value, late.schema)
            assert isinstance(told, Trade)
            told = told.model_copy(update={"late": True, "quantity": 5.0, "ts_init": opened + 2 * SECOND_NS})
            records.append(late._replace(value=topics.encode(told)))
        yield _events(left, records, opened + SECOND_NS)


def _events(left: Left, records: Iterator[Record] | Sequence[Record], at_ns: int) -> list[Event]:
    events = [
        Event(0, len(left.raw) + n, at_ns, record.topic, record.schema.decode(), record.value)
        for n, record in enumerate(records)
    ]
    left.raw += events
    told = [topics.decode(event.body, event.schema) for event in events]
    left.trades += {trade.trade_id: trade for trade in told if isinstance(trade, Trade)}.values()
    return events


def _keep(left: Left, outputs: list[Output]) -> None:
    told: defaultdict[str, list[Message]] = defaultdict(list)
    for output in outputs:
        if output.topic in {topics.CLEAN, topics.FEATURES, ONLINE}:
            told[output.topic].append(topics.decode(output.body, output.schema))
        if output.topic == ONLINE:
            sequence = np.frombuffer(output.sequence or b"", "<f8").reshape(SEQUENCE_LENGTH, len(FORECAST_BAR))
            row = told[ONLINE][-1]
            assert isinstance(row, FeatureRow)
            left.online.append(OnlineRow(row, sequence, {}, None))
            left.mirrors[row.ts_event] = json.loads(output.mirrors or "")
    left.bars += told[topics.CLEAN]  # type: ignore[arg-type]
    left.rows += told[topics.FEATURES]  # type: ignore[arg-type]


def made_settings(folder: Path, redis_url: str, registry: Path) -> Settings:
    """A lake, a served model and a registry of the test's own."""
    made = Settings(
        run_dir=folder, redis_url=redis_url, model_dir=made_artefact(folder / "served"), certify_every_s=60,
    )
    made.registry.parent.mkdir(parents=True)
    made.registry.write_bytes(registry.read_bytes())
    return made


def settle(left: Left, settings: Settings, logged: Sequence[Prediction] | None = None) -> LakeWriter:
    """Write it as the stream and the publisher do: lake, Redis, and a prediction of each online row, or those given."""
    writer = LakeWriter.open(settings.lake)
    writer.write_batch(pa.Table.from_pylist(
        [{
            "topic": TOPIC, "partition": 0, "offset": e.offset, "kafka_timestamp": e.timestamp_ns // 1000,
            "key": SYMBOL, "schema": e.schema, "value": e.body,
        } for e in left.raw],
        schema=RAW_SCHEMA.set(3, pa.field("kafka_timestamp", pa.int64())),
    ).cast(RAW_SCHEMA))
    writer.upsert("clean", left.bars)
    writer.upsert("features", left.rows)
    writer.upsert("predictions", predictions(left, settings) if logged is None else logged)
    FeatureStore.open(settings).write([
        OnlineWrite(one.row, one.sequence, left.mirrors[one.row.ts_event]) for one in left.online])
    return writer


def predictions(left: Left, settings: Settings) -> list[Prediction]:
    """A forecast of each online row; of the one at second 60 made when the store was in the next minute already."""
    artefact = load_artefact(settings.model_dir)
    chosen, by_close = Chosen(artefact, "bootstrap"), {one.row.ts_event: one for one in left.online}
    minute, later = START_NS + 60 * SECOND_NS, START_NS + 61 * SECOND_NS
    made = [answer(one.row, one, chosen, one.row.created, artefact.run) for one in by_close.values()]
    if later in by_close:
        late = answer(by_close[minute].row, by_close[later], chosen, by_close[minute].row.created, artefact.run)
        made = [late if one.ts_event == minute else one for one in made]
    return made
