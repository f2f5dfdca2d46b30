"""The local exchange: the venue's WebSocket and REST protocol from a recording, or from a simulator with none.

    python -m streaming.exchange                                   # the data folder's recording, for ever, at 1×
    python -m streaming.exchange --frames A.gz B.gz --once --speed 0 --original-time --json
    python -m streaming.exchange --simulate --seed 7                 # a made-up market without end

One process, one port, loopback. Every response and handshake says `x-candlewick-source`, `-session`, `-speed`.
By default the recording's whole minutes loop, shifted by whole minutes so that event time is the wall clock, and
the exchange begins inside them; what plays at an instant depends on recording and `--anchor` alone. `--once` plays
the whole recording a single time, waits for the first subscriber, and exits 0 when every client has everything.
`--speed N` runs N times as fast (the venue's clock, REST `time`, with it); 0 is as fast as the clients can take.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from feature_repo.contracts import SECOND_NS, Source
from feature_repo.logs import configure
from feature_repo.settings import LOOPBACK, Settings, load_settings
from streaming.exchange_clock import HISTORY_LAPS, Clock, Timeline, minutes_section, shift_for, whole_section
from streaming.exchange_context import ContextRest
from streaming.exchange_control import Control
from streaming.exchange_faults import ServerFaults
from streaming.exchange_history import HISTORY_DAYS, Minutes, OfficialMinutes
from streaming.exchange_loops import looped_minutes
from streaming.exchange_market import Market, recorded_symbols
from streaming.exchange_rest import Rest
from streaming.exchange_usdm import UsdmRest
from streaming.exchange_ws import Streams
from streaming.recording import read_lines
from streaming.simulator import TRADE_RATE, checked, simulate
from streaming.simulator_hours import Hours
from streaming.simulator_instruments import CATALOGUE
from streaming.simulator_market import simulated_market, simulated_minutes
from streaming.tape import MS, Tape, build_tape, load_tape
from streaming.venues.binance import canonical
from streaming.venues.binance_usdm import is_futures

log = structlog.get_logger()

MINUTES_PER_DAY = 1_440
# 2024-01-01 00:00 UTC less five seconds: as in a recording, the first whole minute is not the beginning.
SIMULATED_BEGIN_NS = (1_704_067_200 - 5) * SECOND_NS
SIMULATED_SECONDS = 611
ONCE_HISTORY_MINUTES = 2 * MINUTES_PER_DAY


@dataclass(frozen=True)
class ExchangeConfig:
    """What an exchange plays, and how."""

    frames: tuple[Path, ...] = ()
    """Recorded files, in order; empty means all the spot recordings of the data folder."""
    speed: float = 1.0
    """Venue seconds a wall second; 0 is as fast as the clients take it."""
    original_time: bool = False
    """Keep the recording's own times."""
    once: bool = False
    """Play the whole recording a single time, from the first subscriber on."""
    anchor_ns: int | None = None
    """Wall time at which the looping began; None means now."""
    simulate: bool = False
    """Play the simulator, as also when there is no recording."""
    seed: int = 1
    """The simulator's seed."""
    trade_rate: float = TRADE_RATE
    """The simulator's trades a second and symbol."""
    port: int = 0
    """Loopback port; 0 means the settings' one."""


def recordings(data_dir: Path) -> dict[str, tuple[Path, ...]]:
    """The data folder's spot recordings: symbol → its files in order of time."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in sorted((data_dir / "ws_raw_binance").glob("spot_*_*.gz")):
        symbol = canonical(path.name.split("_")[1].upper())
        found[symbol] = (*found.get(symbol, ()), path)
    return found


def recorded_files(data_dir: Path, symbols: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """What the exchange plays: every recorded symbol, whoever follows it. Empty when nothing is recorded.

    Raises `ValueError` when a symbol of the settings has no recording while others have: a market that is partly
    recorded and partly made up would be neither.
    """
    found = recordings(data_dir)
    if found and (lacking := sorted(set(symbols) - set(found))):
        raise ValueError(
            f"symbols: expected some of the recorded {', '.join(found)}; found {', '.join(lacking)}, of which "
            f"{data_dir / 'ws_raw_binance'} holds nothing; set CANDLEWICK_SYMBOLS to recorded ones, or play the "
            "simulator (--simulate; `candlewick up --source simulated`)")
    return found


def make_market(
    tape: Tape, source: Source, config: ExchangeConfig, wall_ns: Callable[[], int],
    history: Callable[[str, int], Minutes | None],
) -> Market:
    """Place a tape in time. `history(symbol, until_ms)` gives the minutes before the tape, on its own time axis."""
    section = whole_section(tape) if config.once else minutes_section(tape)
    wall = wall_ns()
    anchor = wall if config.anchor_ns is None else config.anchor_ns
    shift = 0 if config.original_time else shift_for(section, anchor)
    # The recording's own hours hold no invented laps: before it lies what was official then.
    timeline = Timeline(tape, shift, config.once, 0 if config.original_time else HISTORY_LAPS)
    start = section.begin_ns + shift
    if config.once:
        clock = Clock(wall_ns, config.speed, start - 1, None)
    else:
        clock = Clock(wall_ns, config.speed, start if config.original_time else anchor, anchor)
    until_ms = (timeline.loop or section).begin_ns // MS
    minutes = {symbol: history(symbol, until_ms) for symbol in tape.symbols}
    return Market(timeline, clock, source, recorded_symbols(timeline, minutes))


def load_market(config: ExchangeConfig, settings: Settings, wall_ns: Callable[[], int]) -> Market:
    """Read the recording named, or the data folder's, or simulate one when there is none."""
    found = {} if config.frames or config.simulate else recorded_files(settings.data_dir, settings.symbols)
    files = config.frames or tuple(path for paths in found.values() for path in paths)
    if not files:
        bounded = config.once or config.original_time
        return endless_market(config, settings.symbols if bounded else (*settings.symbols, *CATALOGUE), wall_ns)
    first = next((line for line in read_lines(files) if '"stream"' in line.text), next(read_lines(files)))
    # The history is read while the frames are parsed: it may reach into the recording, where it is not used.
    until_ms = first.receive_ns // MS + MINUTES_PER_DAY * 60_000
    spot = () if is_futures(first.text) else found or settings.symbols
    official = {symbol: OfficialMinutes(settings.data_dir, symbol, until_ms) for symbol in spot}
    tape = load_tape(files)

    def history(symbol: str, before_ms: int) -> Minutes | None:
        minutes = official[symbol].wait() if symbol in official else None
        # The recording's own hours hold nothing invented: what is not official there is not known.
        looped = minutes is None and not config.original_time
        return looped_minutes(tape, symbol, before_ms, HISTORY_DAYS) if looped else minutes

    return make_market(tape, "recording", config, wall_ns, history)


def endless_market(config: ExchangeConfig, symbols: Sequence[str], wall_ns: Callable[[], int]) -> Market:
    """The simulated market, which is the same at the same time whenever it is started; `--once` plays ten minutes."""
    if config.once or config.original_time:
        tape = build_tape(
            simulate(symbol, config.seed, SIMULATED_BEGIN_NS, SIMULATED_SECONDS, config.trade_rate)
            for symbol in sorted(set(symbols)))
        return make_market(
            tape, "simulated", config, wall_ns, lambda symbol, until_ms: simulated_minutes(
                Hours(symbol, config.seed, config.trade_rate), until_ms, ONCE_HISTORY_MINUTES))
    anchor = wall_ns() if config.anchor_ns is None else config.anchor_ns
    return simulated_market(symbols, config.seed, config.trade_rate, Clock(wall_ns, config.speed, anchor, anchor))


class Exchange:
    """A market behind one port."""

    def __init__(self, market: Market, wall_ns: Callable[[], int]) -> None:
        self.market = market
        faults = ServerFaults()
        self.streams = Streams(market, faults)
        rest = UsdmRest if market.venue == "usdm" else Rest
        self._rest = rest(market, wall_ns, faults)
        self._context = ContextRest(market)
        self._control = Control(self.streams, faults)
        self._runner: web.AppRunner | None = None

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([*self.streams.routes(), *self._rest.routes(), *self._context.routes(), *self._control.routes()])
        app.add_routes([web.get("/healthz", self._health)])
        app.on_response_prepare.append(self._say_who)
        return app

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "venue_ns": self.market.clock.now()})

    async def _say_who(self, _request: web.Request, response: web.StreamResponse) -> None:
        for name, value in self.market.headers(self.market.moment().lap).items():
            response.headers.setdefault(name, value)

    async def start(self, port: int) -> int:
        """Listen on loopback; port 0 takes a free one. Returns the port."""
        self._runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, port)
        try:
            await site.start()
        except OSError as error:
            raise ValueError(f"port {port}: expected a free one, found {error.strerror}; stop what holds it") from error
        address: tuple[str, int] = self._runner.addresses[0]
        return address[1]

    async def stop(self) -> None:
        """Close every socket and the port."""
        await self.streams.close()
        if self._runner:
            await self._runner.cleanup()

    def summary(self) -> dict[str, Any]:
        """What was played, for `--json`."""
        moment = self.market.moment()
        section = moment.lap.section
        played = {"frames_sent": self.streams.sent} if self.market.timeline.endless else {
            "frames": self.streams.played,
            "trades": sum(int((part.trade_at < self.streams.played).sum()) for part in section.symbols.values()),
        }
        return {
            "source": self.market.source, "session": moment.lap.session, **played,
            "clients": self.streams.served, "seconds": round(self.streams.seconds, 3),
        }


async def serve(market: Market, port: int, wall_ns: Callable[[], int]) -> dict[str, Any]:
    """Serve until a signal comes or a market played once has ended. Returns the summary."""
    exchange = Exchange(market, wall_ns)
    bound = await exchange.start(port)
    log.info("exchange_ready", port=bound, source=market.source, session=market.moment().lap.session,
             speed=market.clock.speed, symbols=sorted(market.symbols))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    waits: list[asyncio.Task[Any]] = [asyncio.create_task(stop.wait())]
    if market.timeline.once:
        waits.append(asyncio.create_task(exchange.streams.watch_end()))
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in waits:
        task.cancel()
    await exchange.stop()
    return exchange.summary()


def run(config: ExchangeConfig, settings: Settings) -> dict[str, Any]:
    """Load, serve, return the summary. Raises `ValueError` for input that cannot be played."""
    import uvloop

    market = load_market(config, settings, time.time_ns)
    return uvloop.run(serve(market, config.port or settings.ports.exchange, time.time_ns))


def serve_here(config: ExchangeConfig) -> dict[str, Any]:
    """`run` with the environment's settings and logs, for the command line."""
    settings = load_settings()
    configure("exchange", settings.log_level)
    return run(config, settings)


def parse(arguments: Sequence[str]) -> tuple[ExchangeConfig, bool]:
    """Command line → configuration, and whether the summary is printed as JSON."""
    parser = argparse.ArgumentParser(prog="streaming.exchange", description="The local exchange.")
    parser.add_argument("--frames", type=Path, nargs="+", default=(), help="recorded files, in order")
    parser.add_argument("--speed", type=float, default=1.0, help="times real time; 0 = as fast as clients take it")
    parser.add_argument("--original-time", action="store_true", help="keep the recording's own times")
    parser.add_argument("--once", action="store_true", help="play the whole recording a single time, then exit")
    parser.add_argument("--anchor", type=int, default=None, help="wall ns at which the looping began (default: now)")
    parser.add_argument("--simulate", action="store_true", help="play the simulator instead of a recording")
    parser.add_argument("--seed", type=int, default=1, help="the simulator's seed")
    parser.add_argument(
        "--trade-rate", type=float, default=TRADE_RATE, help="the simulator's mean trades a second and symbol")
    parser.add_argument("--port", type=int, default=0, help="loopback port (default: the settings')")
    parser.add_argument("--json", action="store_true", help="print a summary at the end")
    given = vars(parser.parse_args(arguments))
    as_json = given.pop("json")
    if given["speed"] < 0:
        raise ValueError(f"--speed: expected 0 or more, found {given['speed']:g}")
    checked(given["seed"], given["trade_rate"])
    anchor, frames = given.pop("anchor"), tuple(given.pop("frames"))
    return ExchangeConfig(frames=frames, anchor_ns=anchor, **given), as_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; a `ValueError` is the user's to mend: exit 2."""
    try:
        config, as_json = parse(sys.argv[1:] if arguments is None else arguments)
        summary = serve_here(config)
    except ValueError as error:
        sys.stderr.write(f"exchange: {error}\n")
        return 2
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
