"""The publisher's reader leaves nothing open when it cannot begin."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bentos.feature_tail import FeatureTail


class Consumer:
    """A broker's client that finds no topics, and counts those that are open."""

    open = 0

    def __init__(self, **_config: Any) -> None:
        Consumer.open += 1

    def partitions_for_topic(self, _topic: str) -> None:
        return None

    def close(self, **_config: Any) -> None:
        Consumer.open -= 1


def test_a_tail_without_its_topics_is_refused_and_closes_its_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka.KafkaConsumer", Consumer)
    for _ in range(3):
        with pytest.raises(LookupError, match="expected topic crypto_features"):
            FeatureTail("127.0.0.1:1", ("BTCUSDT",), cast(Any, None))
    assert Consumer.open == 0
