"""Log files: bounded, readable from their end, followed across a rotation."""

from __future__ import annotations

from pathlib import Path

from infra.stack import logfiles


def test_a_full_log_moves_up_and_the_writer_goes_on_in_the_same_file(tmp_path: Path) -> None:
    log = tmp_path / "ingest.log"
    with log.open("a") as writer:
        for generation in "abcd":
            writer.write(generation * 20 + "\n")
            writer.flush()
            assert logfiles.rotate(log, most_bytes=10, kept=2)
        writer.write("end\n")
    assert log.read_text() == "end\n"
    assert (tmp_path / "ingest.log.1").read_text() == "d" * 20 + "\n"
    assert (tmp_path / "ingest.log.2").read_text() == "c" * 20 + "\n"
    assert not (tmp_path / "ingest.log.3").exists()
    assert not logfiles.rotate(log, most_bytes=10, kept=2)


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "ingest.log"
    assert logfiles.tail(log, 3) == []
    log.write_text("".join(f"line {n}\n" for n in range(100_000)))
    assert logfiles.tail(log, 2) == ["line 99998", "line 99999"]


def test_following_gives_whole_new_lines_only_also_after_a_rotation(tmp_path: Path) -> None:
    log, offsets = tmp_path / "ingest.log", {}  # type: ignore[var-annotated]
    log.write_text("old\n")
    assert list(logfiles.added([log], offsets)) == []
    with log.open("a") as writer:
        writer.write("one\ntw")
        writer.flush()
        assert list(logfiles.added([log], offsets)) == [("ingest", "one")]
        writer.write("o\n")
    assert list(logfiles.added([log], offsets)) == [("ingest", "two")]
    logfiles.rotate(log, most_bytes=1)
    with log.open("a") as writer:
        writer.write("new\n")
    assert list(logfiles.added([log], offsets)) == [("ingest", "new")]
