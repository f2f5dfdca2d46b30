"""Set-up says what went wrong, whatever it was, and is done only when every side is."""

from __future__ import annotations

import pytest

from infra import setup


def failing(error: Exception) -> None:
    raise error


def test_every_side_that_fails_is_told() -> None:
    sides = {
        "packages": lambda: failing(setup.SetupFailed("uv failed")), "page": lambda: failing(OSError("no npm")),
    }
    with pytest.raises(setup.SetupFailed) as failed:
        setup.side_by_side(sides)
    assert sorted(str(failed.value).splitlines()) == ["packages: uv failed", "page: no npm"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # its traceback is the point
def test_a_mistake_of_ours_in_one_side_is_a_failure_too() -> None:
    with pytest.raises(setup.SetupFailed, match="page: ended by the error above"):
        setup.side_by_side({"packages": lambda: None, "page": lambda: failing(ZeroDivisionError())})


def test_sides_that_end_well_are_done() -> None:
    done: list[str] = []
    setup.side_by_side({"packages": lambda: done.append("packages"), "page": lambda: done.append("page")})
    assert sorted(done) == ["packages", "page"]
