"""What the recorder writes from the local exchange is what the exchange sent, and can be played again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from candlewick import app
from feature_repo.contracts import SECOND_NS
from feature_repo.settings import ROOT
from streaming.recorder import Recorder, RecorderConfig, recorder_config, size
from streaming.recording import Line, LineWriter, read_lines
from streaming.recordings import Begins, Contents, Entry, Index
from streaming.tape import Tape, load_tape
from tests.streaming.made_exchange import (
    Wall,
    exchanging,
    frames_until_closed,
    from_the_minute,
    market_of,
    served,
    tape_of,
)


@pytest.fixture(scope="module")
def tape(simulated_frames: list[Line]) -> Tape:
    return tape_of(simulated_frames)


def config(output: Path, host: str, **more: float) -> RecorderConfig:
    return RecorderConfig(output, ((f"ws://{host}", f"http://{host}"),), ("BTCUSDT",), **more)


async def test_a_recording_of_a_replay_is_that_replay(tmp_path: Path, tape: Tape, simulated_frames: list[Line]) -> None:
    market = market_of(tape, time.time_ns, once=True, original_time=True, speed=60)
    async with exchanging(market, time.time_ns) as (exchange, host):
        stop = asyncio.Event()
        recording = asyncio.create_task(Recorder(config(tmp_path, host, rotate_s=math.inf)).run(stop))
        await exchange.streams.watch_end()
        stop.set()
        summary = await recording
    lines = list(read_lines([Path(summary["files"][0])]))
    snapshots = [line for line in lines if line.text.startswith('{"lastUpdateId"')]
    frames = [line.text for line in lines if not line.text.startswith('{"lastUpdateId"')]
    assert frames == [line.text for line in simulated_frames if not line.text.startswith('{"lastUpdateId"')]
    assert len(snapshots) == 1
    assert len(json.loads(snapshots[0].text)["bids"]) > 300
    assert all(b.receive_ns >= a.receive_ns for a, b in pairwise(lines))


async def test_a_recording_can_be_played_again(tmp_path: Path, tape: Tape) -> None:
    market = market_of(tape, time.time_ns, once=True, speed=20)
    async with served(market, time.time_ns) as host:
        summary = await Recorder(config(tmp_path, host, seconds=3.0, rotate_s=math.inf)).run(asyncio.Event())
    recorded = load_tape(Path(name) for name in summary["files"])
    again = market_of(recorded, time.time_ns, once=True, original_time=True, speed=0, history=lambda *_: None)
    async with served(again, time.time_ns) as host:
        frames, _ = await frames_until_closed(host)
    assert len(frames) == len(recorded) == summary["lines"] - 1


async def test_each_connection_and_each_period_begins_a_file_with_its_own_snapshot(tmp_path: Path, tape: Tape) -> None:
    wall_ns, anchor_ns = from_the_minute()
    market = market_of(tape, wall_ns, speed=60, anchor_ns=anchor_ns)  # a seam every two seconds
    async with served(market, wall_ns) as host:
        summary = await Recorder(config(tmp_path, host, seconds=6.0, rotate_s=1.0)).run(asyncio.Event())
    assert summary["connections"] >= 2
    assert len(summary["files"]) > summary["connections"]
    for name in summary["files"][:-1]:
        texts = [json.loads(line.text) for line in read_lines([Path(name)])]
        assert sum("lastUpdateId" in text for text in texts) == 1
        diffs = [text["data"] for text in texts if "depth" in text.get("stream", "")]
        assert all(b["U"] == a["u"] + 1 for a, b in pairwise(diffs))


async def test_a_refused_address_is_named(tmp_path: Path) -> None:
    from feature_repo.settings import Settings

    with pytest.raises(ValueError, match="expected ws://host:port"):
        recorder_config(Settings(), tmp_path, url="http://127.0.0.1:1")


def trade(trade_id: int) -> str:
    """A trade frame that does not compress well."""
    noise = random.Random(trade_id).randbytes(500).hex()
    return json.dumps({"stream": "btcusdt@trade", "data": {"t": trade_id, "x": noise}})


def file_of(folder: Path, number: int, ids: range, begins: Begins = "rotation") -> Entry:
    """One complete file of the folder with trades of those ids, a second apart, and its row."""
    name = f"spot_btcusdt_20240101T000000{number:06}Z_{number:06}.zst"
    lines = [Line(1_000_000_000 * (i + 1), trade(i)) for i in ids]
    with LineWriter(folder / name) as writer:
        for line in lines:
            writer.write(line)
            writer.flush()
    found = Contents("BTCUSDT", 0, 0, begins=begins)
    for line in lines:
        found.add_line(line)
    return found.entry(name, writer.bytes, writer.sha256)


def test_the_index_tells_what_each_file_holds_and_what_lies_between(tmp_path: Path) -> None:
    index = Index.open(tmp_path)
    index.put(file_of(tmp_path, 1, range(10), "start"))
    index.put(file_of(tmp_path, 2, range(10, 15), "rotation"))
    index.put(file_of(tmp_path, 3, range(25, 30), "reconnect"))
    rows = Index.read(tmp_path).entries
    assert [(row.begins, row.frames, row.first_trade_id, row.last_trade_id) for row in rows] == [
        ("start", 10, 0, 9), ("rotation", 5, 10, 14), ("reconnect", 5, 25, 29),
    ]
    assert [(row.gap_ns, row.missing_trades) for row in rows] == [(None, None), (SECOND_NS, 0), (11 * SECOND_NS, 10)]
    for row in rows:
        body = (tmp_path / row.file).read_bytes()
        assert (row.bytes, row.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert index.of("BTCUSDT", 12 * SECOND_NS, 20 * SECOND_NS) == [rows[1]]


def test_a_killed_recorders_file_is_repaired_and_marked_and_a_lost_one_forgotten(tmp_path: Path) -> None:
    index = Index.open(tmp_path)
    for number, ids in ((1, range(10)), (2, range(10, 40)), (3, range(40, 42))):
        index.put(file_of(tmp_path, number, ids))
    first, second, third = index.entries
    index.put(replace(second, source="simulated", complete=False, frames=0, bytes=0, sha256=""))
    torn, whole = tmp_path / second.file, (tmp_path / second.file).read_bytes()
    torn.write_bytes(whole[: len(whole) // 2])
    (tmp_path / third.file).unlink()
    (tmp_path / "notes.txt").write_text("not ours")
    rows = Index.open(tmp_path).entries
    assert [row.file for row in rows] == [first.file, second.file]
    mended = rows[1]
    assert (mended.torn, mended.complete, mended.source, mended.begins) == (True, True, "simulated", "rotation")
    assert mended.first_trade_id == 10
    assert mended.sha256 == hashlib.sha256(torn.read_bytes()).hexdigest()
    lines = list(read_lines([torn]))
    assert [json.loads(line.text)["data"]["t"] for line in lines] == list(range(10, 10 + mended.frames))
    assert Index.open(tmp_path).entries == rows


def test_a_file_that_holds_no_whole_line_is_removed(tmp_path: Path) -> None:
    entry = file_of(tmp_path, 1, range(5))
    (tmp_path / entry.file).write_bytes(b"\x28\xb5\x2f\xfd")
    assert Index.open(tmp_path).entries == []
    assert not (tmp_path / entry.file).exists()


def recorder_of(folder: Path, wall: Callable[[], int], **limits: Any) -> Recorder:
    """A recorder with open files and without a connection."""
    hosts = (("ws://127.0.0.1:1", "http://127.0.0.1:1"),)
    recorder = Recorder(RecorderConfig(folder, hosts, ("BTCUSDT", "ETHUSDT"), **limits), wall)
    recorder._index = Index.open(folder)
    recorder._open("start")
    return recorder


def test_files_end_at_whole_hours_of_utc_and_at_their_size(tmp_path: Path) -> None:
    wall = Wall(1_704_067_199 * SECOND_NS)  # a second before an hour
    recorder = recorder_of(tmp_path, wall, rotate_bytes=20_000)
    assert not recorder._is_over()
    wall.now_ns += SECOND_NS
    assert recorder._is_over()
    recorder._close()
    recorder._open("rotation")
    assert not recorder._is_over()
    for i in range(40):
        recorder._write(trade(i), wall.now_ns)
        recorder._parts["BTCUSDT"].writer.flush()
    assert recorder._is_over()
    recorder._close()


def test_the_oldest_files_go_when_the_budget_is_spent_and_the_index_says_so(tmp_path: Path) -> None:
    wall = Wall(1_704_067_200 * SECOND_NS)
    recorder = recorder_of(tmp_path, wall, budget_bytes=100_000)
    assert recorder.config.most_bytes == 12_500
    for i in range(800):
        wall.now_ns += SECOND_NS
        recorder._write(trade(i), wall.now_ns)
        recorder._parts["BTCUSDT"].writer.flush()
        if recorder._is_over():
            recorder._close()
            recorder._open("rotation")
        recorder._keep_to_budget()
        assert bytes_in(tmp_path) <= 100_000
    recorder._close()
    rows = Index.read(tmp_path).entries
    assert recorder.deleted > 0
    assert {row.file for row in rows} == {path.name for path in tmp_path.glob("*.zst")}
    bitcoin = [row for row in rows if row.symbol == "BTCUSDT"]
    assert bitcoin[-1].last_trade_id == 799
    assert bitcoin[0].first_trade_id != 0, "the oldest went first"
    assert all(row.missing_trades == 0 for row in bitcoin[1:] if row.trades)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"stream":7}', '{"stream":"dogeusdt@trade","data":{"t":1}}'])
def test_what_is_no_frame_of_a_symbol_is_left_out_and_counted(tmp_path: Path, text: str) -> None:
    recorder = recorder_of(tmp_path, Wall(1_704_067_200 * SECOND_NS))
    recorder._write(text, 1)
    recorder._close()
    assert (recorder.left_out, recorder.lines) == (1, 0)


def test_futures_are_refused_by_name(tmp_path: Path) -> None:
    words = ["record", "--output", str(tmp_path), "--symbol", "BTCUSDT-PERP.BINANCE"]
    found = CliRunner().invoke(app, words).exception
    assert isinstance(found, ValueError)
    assert "expected spot instruments, found those of usdm" in str(found)


async def test_two_recorders_do_not_share_a_folder(tmp_path: Path, tape: Tape) -> None:
    market = market_of(tape, time.time_ns, once=True, speed=20)
    async with served(market, time.time_ns) as host:
        stop = asyncio.Event()
        one = asyncio.create_task(Recorder(config(tmp_path, host)).run(stop))
        while not (tmp_path / "index.jsonl").exists():  # noqa: ASYNC110 - another task makes it
            await asyncio.sleep(0.01)
        with pytest.raises(ValueError, match="expected no other recorder"):
            await Recorder(config(tmp_path, host)).run(asyncio.Event())
        stop.set()
        summary = await one
    assert summary["left_out"] == 0


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.zst"))


def left_open(folder: Path) -> list[Entry]:
    """Rows of files that are being written and hold something on disk."""
    rows = [row for row in Index.read(folder).entries if not row.complete]
    return [row for row in rows if (folder / row.file).stat().st_size > 6_000]  # a snapshot alone is 5,200


async def test_a_recorder_killed_in_the_middle_leaves_one_torn_file_that_the_next_start_mends(
    tmp_path: Path, tape: Tape,
) -> None:
    market = market_of(tape, time.time_ns, speed=20, anchor_ns=time.time_ns())
    async with served(market, time.time_ns) as host:
        command = ("candlewick.py", "record", "--output", str(tmp_path), "--url", f"ws://{host}", "--symbol", "BTCUSDT")
        process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT)
        try:
            await _stop_with_a_file_open(process, tmp_path)
        finally:
            process.kill()
            await process.wait()
        before = Index.read(tmp_path).entries
        [left] = [row for row in before if not row.complete]
        summary = await Recorder(config(tmp_path, host, seconds=0.5)).run(asyncio.Event())
    rows = {row.file: row for row in Index.read(tmp_path).entries}
    mended = rows[left.file]
    assert (left.frames, mended.torn, mended.complete) == (0, True, True)
    assert mended.frames + mended.snapshots == sum(1 for _ in read_lines([tmp_path / mended.file])) > 10
    assert {str(tmp_path / file) for file in rows.keys() - {row.file for row in before}} == set(summary["files"])
    shown = CliRunner().invoke(app, ["recordings", str(tmp_path), "--json"])
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["torn"] == 1
    assert " torn" in CliRunner().invoke(app, ["recordings", str(tmp_path)]).stdout


async def _stop_with_a_file_open(process: asyncio.subprocess.Process, folder: Path) -> None:
    """Stop the process in a moment in which it has a file open: it may be between two connections."""
    while True:
        process.send_signal(signal.SIGSTOP)
        if left_open(folder):
            return
        process.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.1)


def test_a_connection_that_brings_nothing_leaves_no_file_but_is_told_of_by_the_next(tmp_path: Path) -> None:
    wall = Wall(1_704_067_200 * SECOND_NS)
    recorder = recorder_of(tmp_path, wall)
    recorder._write(trade(1), wall.now_ns)
    for begins in ("reconnect", "rotation", "rotation"):
        recorder._close()
        recorder._open(begins)
    recorder._write(trade(5), wall.now_ns + SECOND_NS)
    recorder._close()
    rows = Index.read(tmp_path).entries
    assert [(row.symbol, row.begins, row.missing_trades) for row in rows] == [
        ("BTCUSDT", "start", None), ("BTCUSDT", "reconnect", 3),
    ]
    assert sorted(path.name for path in tmp_path.glob("*.zst")) == sorted(row.file for row in rows)
    assert [path.name for path in recorder.files] == [row.file for row in rows]


@pytest.mark.parametrize(("text", "found"), [("20GB", 20 * 10**9), ("4096", 4096), ("10 mb", 10**7), ("2k", 2000)])
def test_a_size_is_read_as_people_write_it(text: str, found: int) -> None:
    assert size(text) == found


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1.5.2MB", "20 parsecs", "0"])
def test_a_size_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size such as 20GB"):
        size(text)
