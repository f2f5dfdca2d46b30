"""A recording gives back what was written, and what was whole of it after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming.recording import Line, LineWriter, read_lines

BEGIN_NS = 1_723_161_253_000_000_000
LINES = [Line(BEGIN_NS + i, f'{{"stream":"btcusdt@trade","data":{{"t":{i},"s":"é"}}}}') for i in range(500)]


@pytest.mark.parametrize("name", ["frames.zst", "frames.gz"])
def test_lines_come_back_exactly_as_written(tmp_path: Path, name: str) -> None:
    with LineWriter(tmp_path / name) as writer:
        for line in LINES:
            writer.write(line)
    assert list(read_lines([tmp_path / name])) == LINES


@pytest.mark.parametrize("name", ["frames.zst", "frames.gz"])
def test_what_was_flushed_survives_a_kill(tmp_path: Path, name: str) -> None:
    writer = LineWriter(tmp_path / name)
    for line in LINES[:300]:
        writer.write(line)
    writer.flush()
    for line in LINES[300:]:
        writer.write(line)
    killed = tmp_path / f"killed-{name}"
    killed.write_bytes((tmp_path / name).read_bytes())  # what is on disk at the moment of the kill
    writer.close()
    found = list(read_lines([killed]))
    assert found == LINES[: len(found)]
    assert len(found) >= 300


def test_a_torn_last_line_is_left_out_and_the_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "frames.zst"
    with LineWriter(path) as writer:
        for line in LINES:
            writer.write(line)
            writer.flush()
    path.write_bytes(path.read_bytes()[:-40])
    found = list(read_lines([path]))
    assert found == LINES[: len(found)]
    assert len(LINES) - 5 < len(found) < len(LINES)


def test_a_recording_is_never_overwritten(tmp_path: Path) -> None:
    LineWriter(tmp_path / "frames.zst").close()
    with pytest.raises(FileExistsError):
        LineWriter(tmp_path / "frames.zst")


@pytest.mark.parametrize(("name", "message"), [
    ("none.zst", "no such file"), ("frames.csv", "expected a .gz or .zst"), ("empty.gz", "empty file"),
    ("bad.gz", "bad.gz:1"),
])
def test_what_is_no_recording_is_refused_by_name(tmp_path: Path, name: str, message: str) -> None:
    import gzip

    (tmp_path / "frames.csv").write_text("a,b")
    with gzip.open(tmp_path / "empty.gz", "wb"):
        pass
    with gzip.open(tmp_path / "bad.gz", "wb") as bad:
        bad.write(b"not a frame\n")
    with pytest.raises(ValueError, match=message):
        list(read_lines([tmp_path / name]))
