"""Lanes: how `pytest -n 2` shares the tests between two processes.

What needs the session's broker is one lane, and begins first: its tests wait for Kafka and Spark more than they
compute, they count the records of topics that they share, and one broker serves them all. Behind them come those that
hold a running service to its second, so that they never meet another stack than a drill's. The other process takes
what remains file by file, because a file's tests share what its fixtures made, and when the first lane is done both
do. A file that is missing here and needs a broker starts one of its own: as right, only not as quick.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

STACKS = frozenset(f"tests/integration/test_{name}.py" for name in (
    "bulk_producer", "chaos_feed", "data_access", "doctor", "ingest", "packed_source", "serving", "serving_live",
    "slow_views", "stream", "symbols",
))


def lane_of(nodeid: str) -> str:
    """The lane of a test: the stacks', or its file.

    >>> lane_of("tests/integration/test_doctor.py::test_a[x::y]"), lane_of("tests/infra/test_doctor.py::test_a")
    ('stacks', 'tests/infra/test_doctor.py')
    """
    path = nodeid.partition("::")[0]
    return "stacks" if path in STACKS else path


class Lanes(LoadScopeScheduling):
    """Hands out lane after lane, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)  # type: ignore[arg-type]
        # By default those with the most tests come first, which says nothing of their time.
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return lane_of(nodeid)


def stacks_first(items: list[pytest.Item]) -> None:
    """Put the stacks' lane before the others, so that it does not begin when all else is done."""
    items.sort(key=lambda item: lane_of(item.nodeid) != "stacks")
