"""The exchange serves every recorded symbol, and never a market that is partly recorded and partly made up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from feature_repo.settings import Settings
from streaming.exchange import ExchangeConfig, load_market, recorded_files
from streaming.exchange_loops import looped_minutes
from streaming.recording import Line, LineWriter
from streaming.simulator import simulate
from streaming.tape import Tape, build_tape
from tests.conftest import SIMULATED_BEGIN_NS
from tests.streaming.made_exchange import Wall, ask, market_of

SECONDS = 130
NOW = 1_795_000_037 * 1_000_000_000
MINUTE_MS, DAY_MINUTES = 60_000, 1_440


@pytest.fixture(scope="module")
def ether() -> list[Line]:
    return list(simulate("ETHUSDT", seed=8, begin_ns=SIMULATED_BEGIN_NS, seconds=SECONDS))


@pytest.fixture(scope="module")
def folder(simulated_frames: list[Line], ether: list[Line], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that holds recordings of two symbols."""
    made = tmp_path_factory.mktemp("data")
    for symbol, lines in (("btcusdt", simulated_frames), ("ethusdt", ether)):
        with LineWriter(made / "ws_raw_binance" / f"spot_{symbol}_20231231.gz") as writer:
            for line in lines:
                writer.write(line)
    return made


@pytest.fixture(scope="module")
def tape(simulated_frames: list[Line], ether: list[Line]) -> Tape:
    return build_tape([simulated_frames, ether])


def test_what_is_recorded_is_served_whoever_follows_it(folder: Path) -> None:
    settings = dataclasses.replace(Settings(data_dir=folder), symbols=("BTCUSDT",))
    market = load_market(ExchangeConfig(anchor_ns=NOW), settings, Wall(NOW))
    assert (market.source, sorted(market.symbols)) == ("recording", ["BTCUSDT", "ETHUSDT"])
    listed = ask(market, "exchangeInfo", {})["symbols"]
    assert [(s["symbol"], s["status"]) for s in listed] == [("BTCUSDT", "TRADING"), ("ETHUSDT", "TRADING")]


def test_a_symbol_without_a_recording_beside_recorded_ones_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(ValueError, match="expected some of the recorded BTCUSDT, ETHUSDT; found SOLUSDT"):
        recorded_files(folder, ("BTCUSDT", "SOLUSDT"))


def test_without_any_recording_every_symbol_is_simulated(tmp_path: Path) -> None:
    assert recorded_files(tmp_path, ("BTCUSDT", "SOLUSDT")) == {}


def test_each_symbol_has_its_own_book_trades_and_klines(
    tape: Tape, simulated_frames: list[Line], ether: list[Line],
) -> None:
    market = market_of(tape, Wall(NOW), anchor_ns=NOW)
    for symbol, lines in (("BTCUSDT", simulated_frames), ("ETHUSDT", ether)):
        alone = market_of(build_tape([lines]), Wall(NOW), anchor_ns=NOW)
        for endpoint, query in (
            ("trades", {"limit": 50}), ("depth", {"limit": 20}), ("klines", {"interval": "1m", "limit": 1_000}),
        ):
            wanted = {"symbol": symbol, **query}
            assert ask(market, endpoint, wanted) == ask(alone, endpoint, wanted), (symbol, endpoint)


def test_a_recording_without_official_klines_is_its_own_history(tape: Tape) -> None:
    until_ms = 1_704_067_200_000  # where the tape's first whole minute begins
    minutes = looped_minutes(tape, "ETHUSDT", until_ms, days=2)
    assert minutes is not None
    assert minutes.open_ms.tolist() == list(range(until_ms - 2 * DAY_MINUTES * MINUTE_MS, until_ms, MINUTE_MS))
    trades = tape.symbols["ETHUSDT"].trades
    inside = trades.ticks[(trades.time_ms >= until_ms) & (trades.time_ms < until_ms + 2 * MINUTE_MS)]
    scale = 10.0 ** tape.symbols["ETHUSDT"].scale.price
    # The newest lap is mirrored and ends where the tape begins; the one before it is the tape itself.
    assert minutes.close[-1] == pytest.approx(inside[0] / scale, rel=1e-12)
    assert minutes.open[-4] == pytest.approx(inside[0] / scale, rel=1e-12)
    assert minutes.close[-3] == pytest.approx(inside[-1] / scale, rel=1e-12)
    assert (minutes.low <= minutes.high).all()
    assert (minutes.taker_volume <= minutes.volume).all()
