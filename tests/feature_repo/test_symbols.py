"""What is followed: the settings' instruments and every later word on them, the last one counting."""

from __future__ import annotations

import pytest

from feature_repo.contracts import FollowedSymbol
from feature_repo.symbols import followed
from feature_repo.topics import SYMBOLS, topics

DEFAULTS = ("BTCUSDT", "ETHUSDT")


def said(*words: str) -> list[FollowedSymbol]:
    """`+SOLUSDT` is added, `-SOLUSDT` removed, in that order."""
    return [FollowedSymbol(symbol=word[1:], ts_init=at, followed=word[0] == "+") for at, word in enumerate(words)]


@pytest.mark.parametrize(("words", "expected"), [
    ([], DEFAULTS),
    (["+SOLUSDT"], (*DEFAULTS, "SOLUSDT")),
    (["+SOLUSDT", "-SOLUSDT"], DEFAULTS),
    (["-BTCUSDT"], ("ETHUSDT",)),
    (["-BTCUSDT", "+BTCUSDT"], DEFAULTS),
    (["+SOLUSDT", "+SOLUSDT", "+ETHUSDT"], (*DEFAULTS, "SOLUSDT")),
    (["-DOGEUSDT"], DEFAULTS),
    (["+BTCUSDT-PERP.BINANCE"], (*DEFAULTS, "BTCUSDT-PERP.BINANCE")),
])
def test_the_last_word_on_an_instrument_counts(words: list[str], expected: tuple[str, ...]) -> None:
    assert followed(DEFAULTS, said(*words)) == expected


def test_compaction_changes_nothing() -> None:
    """The broker keeps the last word of each key only."""
    words = said("+SOLUSDT", "-BTCUSDT", "-SOLUSDT", "+DOGEUSDT", "+BTCUSDT", "+ADAUSDT", "+DOGEUSDT")
    last = {change.symbol: change for change in words}
    kept = [change for change in words if last[change.symbol] is change]
    assert followed(DEFAULTS, kept) == followed(DEFAULTS, words) == (*DEFAULTS, "ADAUSDT", "DOGEUSDT")


def test_other_defaults_keep_what_was_added_and_removed() -> None:
    assert followed(("ADAUSDT", "BTCUSDT"), said("+SOLUSDT", "-BTCUSDT")) == ("ADAUSDT", "SOLUSDT")


def test_the_topic_keeps_the_last_word_for_ever() -> None:
    topic = next(topic for topic in topics(DEFAULTS) if topic.name == SYMBOLS)
    assert (topic.cleanup, topic.retention_ms, topic.partitions) == ("compact", -1, 1)
