"""WebSocket of the local exchange: the venue's raw and combined streams, played to each client at its own pace.

Source of the rules: Binance spot WebSocket streams documentation (requests, errors, pings, limits).

A client belongs to the lap in which it connected and is disconnected at the seam, unless laps join. In a loop the
exchange follows the wall clock: a client that lags five seconds is disconnected rather than fed old data. Played
once, nothing may be lost: the clock waits while there is no subscriber and is held back for a slow one.
"""

from __future__ import annotations

import asyncio
import json

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from feature_repo.contracts import SECOND_NS
from streaming.exchange_client import Client
from streaming.exchange_clock import Lap
from streaming.exchange_faults import SERVER, Fault, ServerFaults
from streaming.exchange_market import Market
from streaming.exchange_requests import Subscriptions

log = structlog.get_logger()

PING_INTERVAL_S = 20.0
PONG_TIMEOUT_S = 60.0
MOST_STREAMS = 1_024
LAG_LIMIT_S = 5.0
HOLD_BACK_S = 0.25
# Frames due within this time go out together: nobody can tell, and the process wakes less often.
TICK_S = 0.002
FRAMES_PER_TURN = 64
PUBLIC = "/public"
USDM_ROUTES = (PUBLIC, "/market")
"""USD-M: trade, depth and bookTicker come on the public route alone."""
LONGEST_SLEEP_S = 1.0
CLOSE_TIMEOUT_S = 10.0
# Played once, nothing may be lost: a slow client gets the time to read all that was sent.
ONCE_CLOSE_TIMEOUT_S = 60.0


class Streams:
    """All clients of one market."""

    def __init__(self, market: Market, server: ServerFaults) -> None:
        self._market, self._server = market, server
        self._routes = ("", *USDM_ROUTES) if market.venue == "usdm" else ("",)
        self._clients: set[Client] = set()
        self.finished = asyncio.Event()
        """Set when a market played once has given every subscriber everything."""
        self.played = 0
        """Frames before this position of a lap have been sent to some client."""
        self.sent = 0
        """Frames sent, over all clients."""
        self.served = 0
        self._began_at: float | None = None

    @property
    def seconds(self) -> float:
        """Wall seconds since the first subscriber; 0 before."""
        return 0.0 if self._began_at is None else _now() - self._began_at

    def routes(self) -> list[web.RouteDef]:
        paths = [f"{route}{path}" for route in self._routes for path in ("/ws", "/ws/{streams:.+}", "/stream")]
        return [web.get(path, self._handle) for path in paths]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self._server.refuses(_now()):
            return web.Response(status=503, text="faults on request: connections are refused")
        patience_s = ONCE_CLOSE_TIMEOUT_S if self._market.timeline.once else CLOSE_TIMEOUT_S
        ws = web.WebSocketResponse(autoping=False, compress=False, timeout=patience_s)
        lap = self._market.moment().lap
        ws.headers.update(self._market.headers(lap))
        await ws.prepare(request)
        wants = Subscriptions(request.path.endswith("/stream"))
        client = Client(ws, lap, _transport(request), wants, ponged_at=_now())
        self._clients.add(client)
        self.served += 1
        # On a wrong route the venue acknowledges and stays silent.
        client.silent = len(self._routes) > 1 and not request.path.startswith(f"{PUBLIC}/")
        wanted = request.query.get("streams", "") or request.match_info.get("streams", "")
        try:
            client.tasks.append(asyncio.create_task(self._watch(client)))
            client.wanted.add([name for name in wanted.split("/") if name])
            self._play_once_wanted(client)
            await self._read(client)
            if client.farewell is not None:
                # The last frames may still be on their way: a connection dropped before the client has said its own
                # goodbye takes them with it.
                await asyncio.wait({client.farewell})
        finally:
            self._clients.discard(client)
            for task in client.tasks:
                task.cancel()
            await asyncio.gather(*client.tasks, return_exceptions=True)
            self._hold_when_alone(client.lap)
        return ws

    def _hold_when_alone(self, lap: Lap) -> None:
        """A market played once waits while nobody listens: a client killed and started again misses little."""
        clock = self._market.clock
        alone = not any(client.playing for client in self._clients)
        if alone and self._market.timeline.once and clock.started and clock.speed and self.played < len(lap.section):
            clock.hold(lap.sent_ns(self.played) - 1)
            log.info("replay_waits", session=lap.session, played=self.played)

    async def close(self) -> None:
        """Say goodbye to every client."""
        await asyncio.gather(*(client.close(WSCloseCode.GOING_AWAY, "shutdown") for client in set(self._clients)))

    # --- faults ---

    def break_down(self, fault: Fault) -> int:
        """Begin a fault on the exchange, or on every open connection. Returns how many connections it hits."""
        if fault.fault in SERVER:
            self._server.add(fault, _now())
            return 0
        clients = set(self._clients)
        for client in clients:
            client.break_down(fault, _now())
        return len(clients)

    def faults(self) -> list[list[Fault]]:
        """The active faults of each open connection."""
        return [client.faults.active(_now()) for client in self._clients]

    def mend(self) -> None:
        """End every fault of every connection."""
        for client in self._clients:
            client.mend()

    # --- inbound ---

    async def _read(self, client: Client) -> None:
        async for message in client.ws:
            if message.type == WSMsgType.PONG:
                client.ponged_at = _now()
            if _too_fast(client):
                await client.close(WSCloseCode.POLICY_VIOLATION, "Too many requests")
                return
            if message.type == WSMsgType.PING and not client.faults.is_on("no_pongs", _now()):
                await self._caught_up(client)
                await client.ws.pong(message.data)
            elif message.type == WSMsgType.TEXT:
                await client.ws.send_str(json.dumps(client.wanted.answer(message.data), separators=(",", ":")))
                client.faults.on_subscribe(client.wanted.asked)
                self._play_once_wanted(client)
            if len(client.wanted.streams) > MOST_STREAMS:
                await client.close(WSCloseCode.POLICY_VIOLATION, "Too many streams")
                return

    async def _caught_up(self, client: Client) -> None:
        """Wait until everything due has been sent: whoever has the pong has all that happened before the ping."""
        at, clock = self._market.clock.now(), self._market.clock
        while client.playing and clock.speed and client.lap.sent_ns(client.position) < at:  # noqa: ASYNC110 - plain
            await asyncio.sleep(TICK_S)

    def _play_once_wanted(self, client: Client) -> None:
        """Begin to serve a client when it first asks for a stream; let a waiting clock go."""
        if not client.wanted.streams or client.playing:
            return
        moment = self._market.moment()
        if moment.lap.session != client.lap.session:
            client.tasks.append(asyncio.create_task(client.close(WSCloseCode.GOING_AWAY, "seam")))
            return
        client.playing = True
        self._began_at = self._began_at or _now()
        client.lap, client.position = moment.lap, moment.position
        if not self._market.clock.started:
            self._market.clock.start()
            log.info("replay_goes_on", session=client.lap.session, position=client.position)
        client.tasks.append(asyncio.create_task(self._play(client)))

    # --- outbound ---

    async def _play(self, client: Client) -> None:
        try:
            ended = await self._play_lap(client)
            while ended and (after := self._market.next_lap(client.lap)):
                client.lap, client.position = after, 0
                ended = await self._play_lap(client)
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            client.playing = False
        client.farewell = asyncio.current_task()
        if not ended:
            await client.close(WSCloseCode.POLICY_VIOLATION, "client too slow")
        elif self._market.timeline.once:
            await client.close(WSCloseCode.OK, "end")
        else:
            await client.close(WSCloseCode.GOING_AWAY, "seam")

    async def _play_lap(self, client: Client) -> bool:
        return await (self._play_timed(client) if self._market.clock.speed else self._play_freely(client))

    async def _play_freely(self, client: Client) -> bool:
        for position in range(client.position, len(client.lap.section)):
            await self._send(client, position)
            self._market.advance(client.lap, position + 1)
            if position % FRAMES_PER_TURN == 0:
                await asyncio.sleep(0)
        return True

    async def _play_timed(self, client: Client) -> bool:
        """Play to the end of the client's lap; False when it lags too much."""
        lap, market = client.lap, self._market
        while client.position < len(lap.section):
            await asyncio.sleep(self._sleep_s(client))
            due = lap.position(market.clock.now())
            for turn, position in enumerate(range(client.position, due), 1):
                if not self._in_time(client):
                    return False
                await self._send(client, position)
                if turn % FRAMES_PER_TURN == 0:
                    await asyncio.sleep(0)
        if not market.timeline.once:
            await asyncio.sleep(market.clock.wait_s(lap.end_ns))
        return True

    def _sleep_s(self, client: Client) -> float:
        wait = self._market.clock.wait_s(client.lap.sent_ns(client.position))
        return min(max(wait, TICK_S), LONGEST_SLEEP_S)

    def _in_time(self, client: Client) -> bool:
        lag = self._lag_s(client)
        if self._market.timeline.once:
            if lag > HOLD_BACK_S:
                self._market.clock.move_to(client.lap.sent_ns(client.position))
            return True
        return lag <= LAG_LIMIT_S

    def _lag_s(self, client: Client) -> float:
        """Wall seconds by which the client's next frame is late."""
        clock = self._market.clock
        return (clock.now() - client.lap.sent_ns(client.position)) / (clock.speed or 1.0) / SECOND_NS

    async def _send(self, client: Client, position: int) -> None:
        frames = self._market.frames
        name = frames.stream(client.lap, position)
        asked = None if client.silent or client.muted else client.wanted.asked_as(name)
        if asked is not None:
            text = frames.combined if client.wanted.combined else frames.raw
            client.sending = True
            payload = text(client.lap, position)
            if asked != name:
                payload = payload.replace(f'"{name}"', f'"{asked}"', 1)
            for sent in client.faults.on_frame(name, payload, _now()):
                await client.send(sent)
            client.sending = False
            client.sent += 1
            self.sent += 1
        client.position = position + 1
        self.played = max(self.played, client.position)

    # --- liveness ---

    async def _watch(self, client: Client) -> None:
        """Ping every 20 s; cut a client that does not answer within 60 s, or cannot take what it is sent."""
        pinged_at = _now()
        while not client.ws.closed:
            await asyncio.sleep(LONGEST_SLEEP_S)
            now = _now()
            if now - client.ponged_at > PING_INTERVAL_S + PONG_TIMEOUT_S or self._stuck(client):
                log.warning("client_cut", session=client.lap.session, sent=client.sent)
                client.transport.abort()
                return
            if not client.playing and self._market.moment().lap.session != client.lap.session:
                await client.close(WSCloseCode.GOING_AWAY, "seam")
            elif now - pinged_at >= PING_INTERVAL_S and not client.muted:
                pinged_at = now
                await client.ws.ping(str(self._market.clock.now() // 1_000_000).encode())

    def _stuck(self, client: Client) -> bool:
        must_keep_up = self._market.clock.speed > 0 and not self._market.timeline.once
        return must_keep_up and client.sending and self._lag_s(client) > LAG_LIMIT_S

    async def watch_end(self) -> None:
        """Set `finished` once the whole tape is played and no subscriber is being served any more."""
        lap = self._market.timeline.lap(0)
        while not self.finished.is_set():
            await asyncio.sleep(0.1)
            if self.played >= len(lap.section) and not self._clients:
                self.finished.set()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _transport(request: web.Request) -> asyncio.Transport:
    assert request.transport is not None
    return request.transport


def _too_fast(client: Client) -> bool:
    now = _now()
    full = len(client.inbound) == client.inbound.maxlen and now - client.inbound[0] < 1.0
    client.inbound.append(now)
    return full
