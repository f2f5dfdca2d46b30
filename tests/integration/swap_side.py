"""One side of a swap of feature sets: the code before or after an edit of FEATURES, on the same Redis and lake.

    python -m tests.integration.swap_side RUN_DIR REDIS_URL MODEL

It reads a JSON list a line, a name and what is given to it, and answers with a line of JSON. `train FOLDER` makes a
model of this code's set. `stream FIRST LAST` goes on with the market from where the state in the run folder stands;
after each second the model of every slot answers from Redis; `found` are the answers to the row that was there before.
`features SERVICE…` asks Feast, online and for what was known. `parity FIRST LAST` is this code's certificate of them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from bentos.answers import Answers
from bentos.artefact import Artefact, load_artefact
from bentos.champion import Chosen, answering
from bentos.metrics import ServiceMetrics
from bentos.publishing import answer as publish
from feature_repo import topics
from feature_repo.catalogue import definitions
from feature_repo.contracts import HOUR_NS, MINUTE_NS, SECOND_NS, Bar, Message, Prediction, SecondClosed, Trade
from feature_repo.feast_config import apply
from feature_repo.features import FEATURE_SET, FORECAST_BAR
from feature_repo.lake_layout import RAW_SCHEMA
from feature_repo.models import live_sets, retired_in_use, slots, unread
from feature_repo.settings import Settings
from feature_repo.store import AsyncReader, FeatureStore
from monitoring.parity.check import Certifier
from monitoring.parity.sampled import sample
from streaming.backfill import HISTORY_MINUTES, HISTORY_SECONDS
from streaming.delivery import online_write
from streaming.lake import LakeWriter
from streaming.symbol_stream import ONLINE, Event, SymbolStream, chunk_bytes, dump, load
from tests.bentos.made import made_artefact

TOPIC = "crypto.btc.trades"
START = 478_655 * HOUR_NS + 20 * MINUTE_NS
COMMON = {"symbol": "BTCUSDT", "source": "simulated", "session": "swap"}


class Asleep:
    """A watch that hears nothing: every answer asks Redis."""

    def is_unchanged(self, _symbol: str) -> bool:
        return False

    def change(self, _symbol: str) -> int:
        return 0

    def has_read(self, _symbol: str, _change: int) -> None:
        return None


def price(n: float) -> float:
    return round(60_000 + 300 * math.sin(n / 40) + 40 * math.sin(1.3 * n), 2)


def bar(n: int, interval_s: Literal[1, 60]) -> Bar:
    """The bar of the venue's history that ends n intervals after START."""
    close, before, last = START + n * interval_s * SECOND_NS, price(interval_s * (n - 1)), price(interval_s * n)
    volume = (2.0 + n % 7) * interval_s
    return Bar(
        **COMMON, ts_event=close, ts_init=close, interval_s=interval_s, open_time=close - interval_s * SECOND_NS,
        close_time=close, open=before, high=max(before, last) + 5, low=min(before, last) - 5, close=last, volume=volume,
        quote_volume=volume * last, vwap=last, trades=3, taker_buy_volume=volume / 2, created=close + SECOND_NS,
        provenance="backfill",
    )


def history() -> list[Message]:
    """A day and more of minutes and a quarter of an hour of seconds, up to START."""
    return [*(bar(n, 60) for n in range(-HISTORY_MINUTES, 1)), *(bar(n, 1) for n in range(-HISTORY_SECONDS, 1))]


def second(n: int) -> list[Message]:
    """One trade in the second that ends n seconds after START, and its seal."""
    close = START + n * SECOND_NS
    trade = Trade(
        **COMMON, ts_event=close - 5, ts_init=close - 4, trade_id=n, price=price(n), quantity=0.5,
        buyer_is_maker=n % 2 == 0,
    )
    seal = SecondClosed(
        **COMMON, ts_event=close, ts_init=close + SECOND_NS // 4, close=close, n_trades=1, first_trade_id=n,
        last_trade_id=n, prev_close=close - SECOND_NS if n > 1 else None, book_valid=True, bid_price=price(n) - 0.5,
        bid_quantity=1.0, ask_price=price(n) + 0.5, ask_quantity=3.0,
    )
    return [trade, seal]


def train(folder: Path) -> dict[str, Any]:
    """A model of this code's set."""
    mine = {name: x for name, x in definitions().items() if name in FORECAST_BAR}
    made_artefact(folder, version=folder.name, feature_definitions=mine)
    return {"feature_set": FEATURE_SET, "features": list(FORECAST_BAR)}


def go_on(settings: Settings, first: int, last: int) -> dict[str, Any]:
    """Each second of [first, last] through the stream, Redis and the lake, and what the models answer to it."""
    retired = retired_in_use(settings)
    stream, saved = read_state(settings, retired)
    store = FeatureStore.open(settings, lambda: START + last * SECOND_NS)
    found = answer(settings, first - 1) if first > 1 else {}
    writer, rows, answers = LakeWriter.open(settings.lake), [], []
    writer.declare()
    told: list[Event] = []
    made: list[Prediction] = []
    for n in range(first, last + 1):
        messages = [*(history() if n == 1 else ()), *second(n)]
        events = [
            Event(0, 1_000_000 * n + i, START + n * SECOND_NS, TOPIC, topics.header(m), topics.encode(m))
            for i, m in enumerate(messages)
        ]
        told += events
        outputs = stream.apply(events)
        features = [topics.decode(o.body, o.schema) for o in outputs if o.topic == topics.FEATURES]
        writer.upsert("features", features)
        assert store.write([online_write(o) for o in outputs if o.topic == ONLINE]) == 1
        made.append(published(settings, store, n))
        rows.append(features[-1].model_dump())
        answers.append(answer(settings, n))
        saved |= {chunk: chunk_bytes(stream, chunk) for chunk in stream.changed}
        stream.changed.clear()
    writer.write_batch(raw(told))
    writer.upsert("predictions", made)
    write_state(settings, stream, saved)
    return {
        "retired": list(retired), "unread": unread(settings), "sets": live_sets(settings), "found": found,
        "rows": rows, "answers": answers,
    }


def answer(settings: Settings, n: int) -> dict[str, Any]:
    """What the model in each slot says to the newest row half a second after second n."""
    async def ask(folder: Path) -> Any:
        reader = AsyncReader.open(settings)
        chosen = Chosen(artefact(folder), "given")
        now_ns = START + n * SECOND_NS + SECOND_NS // 2
        answers = Answers(reader, chosen, lambda: now_ns, ServiceMetrics(), Asleep())
        try:
            return json.loads(await answers.plain("BTCUSDT"))
        finally:
            await reader.close()

    return {slot: asyncio.run(ask(folder)) for slot, folder in slots(settings) if folder.exists()}


def published(settings: Settings, store: FeatureStore, n: int) -> Prediction:
    """What the model that answers publishes of the newest row half a second after second n."""
    online = store.read("BTCUSDT")
    assert online is not None
    chosen = Chosen(artefact(next(folder for _, folder in answering(settings) if folder.exists())), "given")
    assert chosen.artefact is not None
    return publish(online.row, online, chosen, START + n * SECOND_NS + SECOND_NS // 2, chosen.artefact.run)


def raw(events: list[Event]) -> pa.Table:
    """Records as the lake query reads them."""
    schema = RAW_SCHEMA.set(3, pa.field("kafka_timestamp", pa.int64()))
    return pa.Table.from_pylist([{
        "topic": TOPIC, "partition": 0, "offset": e.offset, "kafka_timestamp": e.timestamp_ns // 1000,
        "key": "BTCUSDT", "schema": e.schema, "value": e.body,
    } for e in events], schema=schema).cast(RAW_SCHEMA)


def parity(settings: Settings, first: int, last: int) -> dict[str, Any]:
    """The certificate of some seconds, by this code."""
    certifier = Certifier.open(settings, "BTCUSDT", 600)
    samples = sample(certifier.store, "BTCUSDT", 0, at_once)
    certifier.catch_up(samples.newest, at_once)
    start, end = (START + n * SECOND_NS for n in (first - 1, last))
    return certifier.certify(start, end, samples, at_once)[0].as_dict()


def at_once(_seconds: float) -> None:
    """What is waited for is there."""


def features(settings: Settings, service: str) -> dict[str, Any]:
    """A service's newest values by Feast's SDK, and as known at the newest row's time."""
    store = FeatureStore.open(settings)
    online = store.read("BTCUSDT")
    assert online is not None
    row = online.row
    at = store.with_clock(lambda: row.ts_event)
    entities = pd.DataFrame({"symbol": ["BTCUSDT"], "event_timestamp": pd.to_datetime([row.created], utc=True)})
    history = at.history(entities, service).drop(columns=["symbol", "event_timestamp"]).iloc[0]
    newest = {name: held[0] for name, held in at.online(["BTCUSDT"], service).items() if name != "symbol"}
    return {"online": newest, "history": {name: None if x != x else x for name, x in history.items()}}  # noqa: PLR0124


@cache
def artefact(folder: Path) -> Artefact:
    return load_artefact(folder)


def read_state(settings: Settings, retired: tuple[str, ...]) -> tuple[SymbolStream, dict[tuple[int, int], bytes]]:
    path = settings.run_dir / "state.json"
    if not path.exists():
        return SymbolStream.new("BTCUSDT", retired), {}
    held = json.loads(path.read_text())
    chunks = {(span, start): base64.b64decode(data) for span, start, data in held["chunks"]}
    stream = load("BTCUSDT", tuple(held["position"]), base64.b64decode(held["body"]), chunks, retired)
    return stream, chunks


def write_state(settings: Settings, stream: SymbolStream, chunks: dict[tuple[int, int], bytes]) -> None:
    (settings.run_dir / "state.json").write_text(json.dumps({
        "position": stream.position, "body": base64.b64encode(dump(stream)).decode(),
        "chunks": [[*chunk, base64.b64encode(data).decode()] for chunk, data in chunks.items()],
    }))


def settings_of(run_dir: Path, redis: str, model: Path) -> Settings:
    return Settings(run_dir=run_dir, redis_url=redis, lake_url=f"file://{run_dir}/lake", model_dir=model)


def main(run_dir: str, redis: str, model: str) -> int:
    settings = settings_of(Path(run_dir), redis, Path(model))
    for line in sys.stdin:
        name, *given = json.loads(line)
        artefact.cache_clear()
        if name == "train":
            found = train(Path(given[0]))
        elif name == "stream":
            found = go_on(settings, *given)
        elif name == "parity":
            found = parity(settings, *given)
        else:
            apply(settings)
            found = {service: features(settings, service) for service in given}
        print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
