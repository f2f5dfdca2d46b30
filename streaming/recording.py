"""Recordings: venue frames as text lines, `<receive time ns> <exact text as received>`, in .gz or .zst files.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "spot_btcusdt.zst"
    ...     with LineWriter(path) as writer:
    ...         writer.write(Line(1_723_161_253_937_085_768, '{"stream":"btcusdt@trade","data":{}}'))
    ...     list(read_lines([path]))
    [Line(receive_ns=1723161253937085768, text='{"stream":"btcusdt@trade","data":{}}')]

A REST depth snapshot is a line among the others, its body as received. A file holds one symbol, since a
snapshot does not name its own. The writer flushes whole blocks, so a killed recorder leaves a readable file
whose end is missing: the reader gives every whole line and leaves a torn last one out.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Protocol, Self, cast

import structlog
import zstandard

log = structlog.get_logger()

ZSTD_LEVEL = 10
FIRST_NS = 10**18
"""2001-09-09 in nanoseconds: no recorder stamped anything before."""


class Line(NamedTuple):
    """One recorded frame. `receive_ns` is the recorder's wall clock, UTC; `text` is exactly what the venue sent."""

    receive_ns: int
    text: str


def read_lines(paths: Iterable[Path]) -> Iterator[Line]:
    """Every line of the files, in the order given. Raises `ValueError` naming file and line of a malformed one."""
    for path in paths:
        yield from _read_file(path)


def _read_file(path: Path) -> Iterator[Line]:
    number = 0
    with _open(path) as stream:
        for number, raw in enumerate(_whole_lines(stream, path), 1):
            yield _parse(raw, path, number)
    if number == 0:
        raise ValueError(f"{path}: expected recorded frames, found an empty file")


def _whole_lines(stream: Iterable[bytes], path: Path) -> Iterator[bytes]:
    try:
        for raw in stream:
            if raw.endswith(b"\n") or _is_whole(raw):
                yield raw
            else:
                log.warning("torn_last_line_left_out", path=str(path))
    except (EOFError, zlib.error, zstandard.ZstdError) as error:
        # A recorder that was killed: everything before the tear has been yielded.
        log.warning("recording_ends_torn", path=str(path), reason=str(error))


def _is_whole(raw: bytes) -> bool:
    _, _, text = raw.partition(b" ")
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _parse(raw: bytes, path: Path, number: int) -> Line:
    stamp, separator, text = raw.rstrip(b"\r\n").partition(b" ")
    if not separator or not stamp.isdigit() or not text.startswith(b"{"):
        raise ValueError(f"{path}:{number}: expected '<receive ns> <json>', found {raw[:60]!r}")
    return Line(_nanoseconds(int(stamp)), text.decode())


def _nanoseconds(stamp: int) -> int:
    """A stamp of our century in ns: some recorders write microseconds."""
    return stamp * 1_000 if FIRST_NS // 1_000 <= stamp < FIRST_NS else stamp


def _open(path: Path) -> IO[bytes]:
    if not path.is_file():
        raise ValueError(f"recorded frames expected at {path}, found no such file; check the path")
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.suffix == ".zst":
        reader = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), read_across_frames=True, closefd=True)
        return io.BufferedReader(cast(io.RawIOBase, reader), 1 << 18)
    raise ValueError(f"{path.name}: expected a .gz or .zst recording, found {path.suffix or 'no suffix'}")


class _Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...
    def flush(self) -> object: ...
    def close(self) -> None: ...


class _Hashed:
    """A file that is hashed as it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.bytes = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


class LineWriter:
    """Appends lines to one new file; refuses to overwrite. What `flush` has returned for survives a kill -9."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.lines = 0
        self._file = path.open("xb")
        self._hashed = _Hashed(self._file)
        self._sink = _sink(path, cast(IO[bytes], self._hashed))

    @property
    def bytes(self) -> int:
        """Written so far, compressed; without what waits for the next flush."""
        return self._hashed.bytes

    @property
    def sha256(self) -> str:
        """Of the file, once it is closed."""
        return self._hashed.digest.hexdigest()

    def write(self, line: Line) -> None:
        """Add one line; `line.text` must be one line of text."""
        assert "\n" not in line.text, "a frame is one line of text"
        self._sink.write(f"{line.receive_ns} {line.text}\n".encode())
        self.lines += 1

    def flush(self) -> None:
        """Hand everything written so far to the operating system in a form that can be read back."""
        self._sink.flush()
        self._file.flush()

    def close(self) -> None:
        """End the file and wait until it is on disk."""
        if self._file.closed:
            return
        self._sink.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _sink(path: Path, file: IO[bytes]) -> _Sink:
    if path.suffix == ".gz":
        return cast(_Sink, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0))
    if path.suffix == ".zst":
        return cast(_Sink, zstandard.ZstdCompressor(level=ZSTD_LEVEL).stream_writer(file, closefd=False))
    raise ValueError(f"{path.name}: expected a name ending in .gz or .zst, found {path.suffix or 'no suffix'}")
