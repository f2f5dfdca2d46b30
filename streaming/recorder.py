"""Recorder: a venue's frames and depth snapshots around the clock, to zstd files, receive time and exact text.

    candlewick record                                                # the venue, the settings' symbols, for ever
    candlewick record --output DIR --url ws://127.0.0.1:18080        # the local exchange
    candlewick record --budget 20GB --rotate 3600 --rotate-size 256MB

A file holds one symbol and one unbroken connection; a reconnection, a whole UTC hour and a size begin a new one with
its own snapshot, so that each can be replayed alone. Blocks are flushed every second: a kill -9 costs a second at
most. The folder's index (`streaming.recordings`) tells what each file holds and how it joins the one before.
"""

from __future__ import annotations

import asyncio
import fcntl
import random
import re
import signal
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import structlog

from feature_repo.contracts import SECOND_NS, Source, VenueRefused
from feature_repo.logs import configure
from feature_repo.settings import Settings, load_settings
from streaming.connections import backoff_s
from streaming.recording import Line, LineWriter
from streaming.recordings import INDEX, Begins, Contents, Index, stream_of, trade_id
from streaming.venues.binance_rest import identity
from streaming.venues.market import SPOT, one_market

log = structlog.get_logger()

STREAMS = ("trade", "depth@100ms", "bookTicker")
SNAPSHOT_LEVELS = 5_000
FLUSH_S = 1.0
PROGRESS_S = 30.0
SILENCE_S = 30.0
HTTP_TIMEOUT_S = 10.0
MB = 1_000_000
UNITS = {"": 1, "KB": 1_000, "MB": MB, "GB": 1_000 * MB, "TB": 1_000_000 * MB}
SHARE_OF_BUDGET = 4
"""A file grows to this part of what the budget leaves each symbol at most, so that deleting whole files is enough."""


@dataclass(frozen=True)
class RecorderConfig:
    """What to record, from where, and how long a file may grow."""

    output: Path
    """Folder for the files; made when missing."""
    hosts: tuple[tuple[str, str], ...]
    """(WebSocket URL, REST URL) pairs, tried in order."""
    symbols: tuple[str, ...]
    """The venue's symbols."""
    seconds: float | None = None
    """How long to record; None is until stopped."""
    rotate_s: float = 3_600.0
    """A new file whenever UTC is a multiple of this many seconds."""
    rotate_bytes: int = 256 * MB
    """A new file when one has grown to this size."""
    budget_bytes: int | None = None
    """Most bytes of the folder's recordings: the oldest complete files are deleted for new ones. None: no limit."""

    @property
    def most_bytes(self) -> int:
        """Size at which a file is ended."""
        share = (self.budget_bytes or 0) // (SHARE_OF_BUDGET * len(self.symbols))
        return min(self.rotate_bytes, share) if self.budget_bytes else self.rotate_bytes


def size(text: str) -> int:
    """Bytes of a size as people write it. Raises `ValueError`.

    >>> size("20GB"), size("1.5 MB"), size("4096")
    (20000000000, 1500000, 4096)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B?)", text.strip().upper())
    unit = found[2] if found else ""
    unit = f"{unit}B" if unit in ("K", "M", "G", "T") else unit.removeprefix("B") if unit == "B" else unit
    if found is None or (count := int(float(found[1]) * UNITS[unit])) < 1:
        raise ValueError(f"expected a size such as 20GB or 500MB, found {text!r}")
    return count


def recorder_config(settings: Settings, output: Path | None, url: str | None = None, **more: Any) -> RecorderConfig:
    """The settings' venue, or `url` (ws:// or wss://, its REST on the same host and port)."""
    venue = tuple(zip(settings.venue_ws, settings.venue_rest, strict=True))
    hosts = venue if url is None else ((url, _rest_url(url)),)
    return RecorderConfig(output or recordings_folder(settings), hosts, settings.symbols, **more)


def recordings_folder(settings: Settings) -> Path:
    """Where recordings lie when nothing else is said."""
    return settings.run_dir / "recordings"


def _rest_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.netloc:
        raise ValueError(f"--url: expected ws://host:port or wss://host:port, found {url!r}")
    return urlunsplit(("https" if parts.scheme == "wss" else "http", parts.netloc, "", "", ""))


@dataclass
class Part:
    """A file that is being written."""

    writer: LineWriter
    contents: Contents

    def write(self, line: Line, trade: int | None = None, *, snapshot: bool = False) -> None:
        self.writer.write(line)
        self.contents.add(line.receive_ns, trade, snapshot=snapshot)


@dataclass
class Recorder:
    """Writes one file a symbol and connection. `wall_ns` stamps what is received."""

    config: RecorderConfig
    wall_ns: Callable[[], int] = time.time_ns
    files: list[Path] = field(default_factory=list)
    lines: int = 0
    left_out: int = 0
    """Frames that are no line of any symbol's file."""
    deleted: int = 0
    connections: int = 0
    bytes: int = 0
    """Of the files that are complete."""
    _index: Index | None = None
    _parts: dict[str, Part] = field(default_factory=dict)
    _opened: int = 0
    _source: Source = "recording"
    _opened_ns: int = 0
    _owed: dict[str, Begins] = field(default_factory=dict)
    """How a file began that held nothing: what it would have told, the symbol's next one tells."""

    async def run(self, stop: asyncio.Event) -> dict[str, Any]:
        """Record until `stop` or the time is over; reconnects by itself. Returns a summary.

        Raises `ValueError` when another recorder writes to the folder.
        """
        started = self.wall_ns()
        with _alone(self.config.output):
            self._index = Index.open(self.config.output)
            recording = asyncio.create_task(self._reconnecting())
            stopping = asyncio.create_task(stop.wait())
            telling = asyncio.create_task(self._tell())
            try:
                await asyncio.wait(
                    {recording, stopping}, timeout=self.config.seconds, return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                for task in (recording, stopping, telling):
                    task.cancel()
                ended = await asyncio.gather(recording, stopping, telling, return_exceptions=True)
                self._close()
        if isinstance(ended[0], Exception):
            raise ended[0]
        return self._summary(started)

    def _summary(self, started: int) -> dict[str, Any]:
        seconds = (self.wall_ns() - started) / SECOND_NS
        return {
            "files": [str(path) for path in self.files], "lines": self.lines, "bytes": self.bytes,
            "left_out": self.left_out, "deleted": self.deleted, "connections": self.connections,
            "seconds": round(seconds, 3), "index": str(self.config.output / INDEX),
        }

    async def _tell(self) -> None:
        while True:
            before = self.lines
            await asyncio.sleep(PROGRESS_S)
            log.info("recording", frames_per_s=round((self.lines - before) / PROGRESS_S, 1), files=len(self.files),
                     bytes=self.bytes + self._open_bytes(), connected=bool(self._parts))

    async def _reconnecting(self) -> None:
        attempt = 0
        timeout = aiohttp.ClientTimeout(total=HTTP_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, trace_configs=[self._hearing_who()]) as session:
            while True:
                host, rest = self.config.hosts[attempt % len(self.config.hosts)]
                before = self.lines
                try:
                    await self._connection(session, host, rest)
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    log.warning("recorder_disconnected", host=host, reason=repr(error))
                self._close()
                attempt = 0 if self.lines > before else attempt + 1
                await asyncio.sleep(backoff_s(attempt, random.random()))

    async def _connection(self, session: aiohttp.ClientSession, host: str, rest: str) -> None:
        streams = "/".join(f"{symbol.lower()}@{stream}" for symbol in self.config.symbols for stream in STREAMS)
        async with session.ws_connect(f"{host}/stream?streams={streams}", max_msg_size=0) as socket:
            self.connections += 1
            log.info("recorder_connected", host=host, source=self._source)
            self._open("start" if self.connections == 1 else "reconnect")
            await _first_ended(self._receive(socket), self._upkeep(session, rest))

    def _hearing_who(self) -> aiohttp.TraceConfig:
        """Reads from each answer whose data these are; a socket does not show its handshake's headers otherwise."""
        async def heard(_session: object, _context: object, answer: aiohttp.TraceRequestEndParams) -> None:
            try:
                self._source = identity(str(answer.url), answer.response.headers, "").source
            except VenueRefused:
                self._source = "recording"  # neither the venue nor one of ours: kept, but never taken for live

        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(heard)
        return trace

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            message = await socket.receive(timeout=SILENCE_S)
            if message.type != aiohttp.WSMsgType.TEXT:
                log.info("recorder_closed_by_venue", code=socket.close_code)
                return
            self._write(message.data, self.wall_ns())

    def _write(self, text: str, receive_ns: int) -> None:
        stream, data = stream_of(text)
        part = self._parts.get(stream.partition("@")[0].upper())
        if part is None or "\n" in text:
            self.left_out += 1
            log.warning("frame_left_out", text=text[:200])
            return
        part.write(Line(receive_ns, text), trade_id(stream, data))
        self.lines += 1

    async def _upkeep(self, session: aiohttp.ClientSession, rest: str) -> None:
        """Fetch each file's snapshot, flush every second, begin new files in time, keep to the budget."""
        fetching = asyncio.create_task(self._snapshots(session, rest))
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                for part in self._parts.values():
                    part.writer.flush()
                if self._is_over():
                    fetching.cancel()
                    self._close()
                    self._open("rotation")
                    fetching = asyncio.create_task(self._snapshots(session, rest))
                self._keep_to_budget()
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)

    def _is_over(self) -> bool:
        period = self.config.rotate_s * SECOND_NS
        grown = any(part.writer.bytes >= self.config.most_bytes for part in self._parts.values())
        return grown or self.wall_ns() // period > self._opened_ns // period

    def _keep_to_budget(self) -> None:
        assert self._index is not None
        limit = self.config.budget_bytes
        while limit is not None and self._index.bytes + self._open_bytes() > limit:
            oldest = self._index.drop_oldest()
            if oldest is None:
                return  # only what is being written is left
            self.deleted += 1
            log.info("recording_deleted", file=oldest.file, bytes=oldest.bytes, budget=limit)

    def _open_bytes(self) -> int:
        return sum(part.writer.bytes for part in self._parts.values())

    async def _snapshots(self, session: aiohttp.ClientSession, rest: str) -> None:
        """One snapshot for each open file; asked for again and again, while the frames go on."""
        for symbol in self.config.symbols:
            attempt = 0
            while not await self._snapshot(session, rest, symbol):
                await asyncio.sleep(FLUSH_S + backoff_s(attempt, random.random()))
                attempt += 1

    async def _snapshot(self, session: aiohttp.ClientSession, rest: str, symbol: str) -> bool:
        query = {"symbol": symbol, "limit": str(SNAPSHOT_LEVELS)}
        try:
            async with session.get(f"{rest}/api/v3/depth", params=query) as answer:
                text = await answer.text()
                if answer.status != 200:
                    raise VenueRefused(f"expected 200, found {answer.status}: {text[:200]}")
        except (aiohttp.ClientError, OSError, TimeoutError, UnicodeDecodeError, VenueRefused) as error:
            log.warning("snapshot_not_had", symbol=symbol, reason=repr(error))
            return False
        self._parts[symbol].write(Line(self.wall_ns(), text.replace("\n", "")), snapshot=True)
        self.lines += 1
        return True

    def _open(self, begins: Begins) -> None:
        assert self._index is not None
        self._opened_ns = self.wall_ns()
        stamp = datetime.fromtimestamp(self._opened_ns / SECOND_NS, UTC).strftime("%Y%m%dT%H%M%S%f")
        for symbol in self.config.symbols:
            self._opened += 1
            name = f"spot_{symbol.lower()}_{stamp}Z_{self._opened:06}.zst"
            begun = self._owed.pop(symbol, begins)
            contents = Contents(symbol, self._opened_ns, self._opened_ns, self._source, begun)
            self._index.put(contents.entry(name, 0, "", complete=False))
            self._parts[symbol] = Part(LineWriter(self.config.output / name), contents)
            self.files.append(self.config.output / name)

    def _close(self) -> None:
        for part in self._parts.values():
            part.writer.close()
            if part.contents.frames:
                self._keep(part)
            else:
                self._forget(part)
        self._parts.clear()

    def _keep(self, part: Part) -> None:
        assert self._index is not None
        self._index.put(part.contents.entry(part.writer.path.name, part.writer.bytes, part.writer.sha256))
        self.bytes += part.writer.bytes

    def _forget(self, part: Part) -> None:
        """A venue that lets us in and says nothing, again and again, leaves no files."""
        assert self._index is not None
        self._index.drop(part.writer.path.name)
        self.files.remove(part.writer.path)
        self.lines -= part.contents.snapshots
        if part.contents.begins != "rotation":
            self._owed[part.contents.symbol] = part.contents.begins


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system lets it go when the process ends, however it does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "recorder.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{folder}: expected no other recorder, found one; choose another --output") from error
        yield


async def _first_ended(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until one returns or fails; stop the others."""
    tasks = {asyncio.create_task(part) for part in parts}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _until_signal(recorder: Recorder) -> dict[str, Any]:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await recorder.run(stop)


def record(output: Path | None, url: str | None, symbols: Sequence[str], **more: Any) -> dict[str, Any]:
    """Record with the environment's settings until SIGINT, SIGTERM or the time is over; for the command line."""
    settings = load_settings()
    config = recorder_config(settings, output, url, **more)
    config = replace(config, symbols=tuple(symbols)) if symbols else config
    if (found := one_market(config.symbols)) is not SPOT:
        raise ValueError(f"--symbol: expected spot instruments, found those of {found.name}; they are not recorded yet")
    configure("recorder", settings.log_level)
    return asyncio.run(_until_signal(Recorder(config)))
