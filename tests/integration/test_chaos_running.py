"""A fault at the venue, over a real broker: a running ingest is judged by what it published and counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_repo import topics
from streaming.chaos_stack import run_on_stack
from streaming.scenario import parse_scenario
from tests.integration.conftest import free_port
from tests.integration.streaming_stack import StreamingStack, fresh_topics, until

pytestmark = [pytest.mark.integration, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(400)]
MINE = {
    "name": "mine", "shows": "a refused diff",
    # The market is watched for a while first: simulated trades come in bursts, and some seconds have none.
    "steps": [{"after_s": 10, "fault": "nan_text", "symbol": "BTCUSDT", "stream": "depth"}],
    "expect": {"dead_letters": "faults", "resyncs": 1, "connects": 1},
}


def test_running_ingest_is_judged_by_what_it_published_and_counts(tmp_path: Path, kafka: str) -> None:
    symbols = ("BTCUSDT", "ETHUSDT")
    names_of = [name for symbol in symbols for name in (topics.trades_topic(symbol), topics.order_book_topic(symbol))]
    fresh_topics(kafka, (*names_of, topics.DEAD_LETTERS))
    topics.create_topics(kafka, topics.topics(symbols))
    stack = StreamingStack.make(tmp_path, kafka, "redis://unused", free_port)
    try:
        with pytest.raises(ValueError, match="expected the running stack"):
            run_on_stack(parse_scenario(MINE), stack.settings)
        stack.start("streaming.exchange", "--simulate", "--trade-rate", "50")
        until(lambda: stack.answers(stack.settings.ports.exchange), 60, "the exchange answers")
        stack.start("streaming.ingest")
        until(lambda: stack.answers(stack.settings.ports.ingest), 60, "ingest is well")
        report = run_on_stack(parse_scenario(MINE), stack.settings)
    finally:
        stack.close()
    assert (report["passed"], report["unmet"]) == (True, [])
    assert (report["resyncs"], report["dead_letters"], report["missing_ids"]) == (1, 1, 0)
    assert report["books_equal"]
    assert report["trades"] > 10
