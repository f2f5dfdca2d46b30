"""Long work says how far it is to whoever looks, and nothing to anybody else."""

from __future__ import annotations

import io

from feature_repo.progress import Bar, shown, step


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_steps_are_seen_only_inside_by_the_one_that_looks() -> None:
    seen: list[tuple[str, int, int]] = []
    step("before")
    with shown(lambda *told: seen.append(told)):
        step("epoch 1 of 2", 5, 10)
        with shown(lambda *_: None):
            step("hidden")
        step("calibrating")
    step("after")
    assert seen == [("epoch 1 of 2", 5, 10), ("calibrating", 0, 0)]


def test_a_file_gets_a_line_for_what_is_new_what_is_done_and_what_takes_long() -> None:
    told, clock = io.StringIO(), Clock()
    bar = Bar(told, clock)
    for done, seconds in ((0, 0), (10, 1), (20, 9), (30, 10), (40, 12), (100, 13)):
        clock.at = 100.0 + seconds
        bar("epoch 1 of 2", done, 100)
    bar("calibrating", 0, 0)
    assert told.getvalue().splitlines() == [
        "     0 s  [····················]   0 %  epoch 1 of 2",
        "    10 s  [######··············]  30 %  epoch 1 of 2",
        "    13 s  [####################] 100 %  epoch 1 of 2",
        "    13 s  calibrating",
    ]


def test_a_terminal_sees_one_line_grow_and_a_new_one_begin() -> None:
    told = Terminal()
    bar = Bar(told, Clock())
    bar("one", 1, 2)
    bar("one", 2, 2)
    bar("two", 0, 2)
    assert told.getvalue().count("\n") == 1
    assert told.getvalue().split("\n")[1] == "\r     0 s  [····················]   0 %  two\x1b[K"
