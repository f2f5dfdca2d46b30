"""Every live row is predicted once; a pause skips nowcasts, never a young whole minute; silence is announced."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bentos.artefact import load_artefact
from bentos.champion import Chosen
from bentos.publishing import Silence, answer, to_predict
from feature_repo.contracts import MINUTE_NS, SECOND_NS, FeatureRow
from feature_repo.proof import row_hash, sequence_hash
from tests.bentos.made import MINUTE, made_artefact, made_online, made_row


@pytest.fixture
def chosen(tmp_path: Path) -> Chosen:
    return Chosen(load_artefact(made_artefact(tmp_path / "model")), "bootstrap")


def at(second: int) -> FeatureRow:
    return made_row(MINUTE + second * SECOND_NS, return_1m=0.002, spread_1s=0.01)


def seconds(rows: list[FeatureRow]) -> list[int]:
    return [(row.ts_event - MINUTE) // SECOND_NS for row in rows]


@pytest.mark.parametrize(("read", "now", "wanted", "passed_over"), [
    ([1], 1, [1], 0),
    ([1, 2, 3], 3, [3], 2),                       # behind: only the newest
    ([58, 59, 60, 61, 62], 62, [60, 62], 3),      # … and the whole minute
    ([60, 120, 125], 125, [120, 125], 1),         # the minute of 65 s ago is too old
    ([60, 120, 121], 120, [60, 120, 121], 0),     # at exactly 60 s it is not
    ([], 5, [], 0),
])
def test_which_rows_are_predicted(read: list[int], now: int, wanted: list[int], passed_over: int) -> None:
    chosen_rows, skipped = to_predict([at(s) for s in read], MINUTE + now * SECOND_NS)
    assert (seconds(chosen_rows), skipped) == (wanted, passed_over)


def test_history_is_not_predicted() -> None:
    backfilled = at(60).model_copy(update={"provenance": "backfill"})
    assert to_predict([backfilled], MINUTE + 60 * SECOND_NS) == ([], 0)


def test_symbols_do_not_hide_one_another() -> None:
    other = at(1).model_copy(update={"symbol": "ETHUSDT"})
    assert to_predict([at(1), other, at(2)], MINUTE)[0] == [other, at(2)]


def test_a_fresh_row_is_tier_one(chosen: Chosen) -> None:
    assert chosen.artefact is not None
    row = at(60)
    made = answer(row, made_online(row), chosen, row.created, chosen.artefact.run)
    assert (made.tier, made.nowcast, made.should_trade, made.should_trade_15m) == (1, False, True, True)


def test_redis_a_second_behind_gives_the_same_numbers(chosen: Chosen) -> None:
    assert chosen.artefact is not None
    row, before = at(60), at(59)
    online = made_online(before)
    exact = made_online(row, online.sequence)
    one, other = (answer(row, held, chosen, row.created, chosen.artefact.run) for held in (online, exact))
    assert one.p_up == other.p_up
    assert one.tier == 1


def test_a_late_whole_minute_is_recorded_and_not_traded(chosen: Chosen) -> None:
    assert chosen.artefact is not None
    row = at(60)
    made = answer(row, made_online(at(90)), chosen, row.ts_event + 30 * SECOND_NS, chosen.artefact.run)
    assert (made.tier, made.should_trade, made.should_trade_15m, made.ts_event) == (1, False, False, row.ts_event)
    assert made.p_up is not None
    assert made.reasons == ["no trade: published 30.0 s after its minute"]


def test_a_late_nowcast_is_safe_mode(chosen: Chosen) -> None:
    assert chosen.artefact is not None
    made = answer(at(61), made_online(at(61)), chosen, MINUTE + 70 * SECOND_NS, chosen.artefact.run)
    assert (made.tier, made.p_up) == (5, None)
    assert made.reasons == ["features are 9.0 s old; tier 1 allows 3 s"]


@pytest.mark.parametrize(("online", "fault", "reason"), [
    (False, None, "no stored sequence for the model"),
    (False, "Redis expected at 127.0.0.1:1", "Redis expected at 127.0.0.1:1"),
])
def test_without_a_sequence_there_is_no_forecast(
    chosen: Chosen, online: bool, fault: str | None, reason: str,
) -> None:
    assert chosen.artefact is not None
    row = at(60)
    held = made_online(row) if online else None
    made = answer(row, held, chosen, row.created, chosen.artefact.run, store_fault=fault)
    assert (made.tier, made.reasons) == (5, [reason])


def test_a_percentile_not_renewed_for_a_day_leaves_the_risk_unknown(chosen: Chosen) -> None:
    assert chosen.artefact is not None
    row = at(60)
    old = made_online(row, context_at=row.ts_event - 25 * 60 * MINUTE_NS)
    assert answer(row, old, chosen, row.created, chosen.artefact.run).risk_score is None
    assert answer(row, made_online(row), chosen, row.created, chosen.artefact.run).risk_score is not None


def test_silence_is_said_once_and_then_every_ten_seconds(chosen: Chosen) -> None:
    silence, last = Silence(), at(0)
    said = [
        second for second in range(30)
        if silence.notice("BTCUSDT", last, chosen, MINUTE + second * SECOND_NS) is not None
    ]
    assert said == [4, 14, 24]


def test_a_notice_is_as_of_its_own_second_and_says_how_old_the_features_are(chosen: Chosen) -> None:
    made = Silence().notice("BTCUSDT", at(0), chosen, MINUTE + 60 * SECOND_NS + 400_000_000)
    assert made is not None
    assert (made.ts_event, made.tier, made.nowcast, made.should_trade) == (MINUTE + 60 * SECOND_NS, 5, False, False)
    assert made.reasons == ["features are 60.4 s old; tier 1 allows 3 s"]


def test_new_rows_end_the_silence_and_a_new_one_is_announced_at_once(chosen: Chosen) -> None:
    silence = Silence()
    assert silence.notice("BTCUSDT", at(0), chosen, MINUTE + 5 * SECOND_NS)
    assert silence.notice("BTCUSDT", at(6), chosen, MINUTE + 7 * SECOND_NS) is None
    assert silence.notice("BTCUSDT", at(6), chosen, MINUTE + 10 * SECOND_NS)


def test_nothing_is_said_of_a_symbol_that_never_had_a_row(chosen: Chosen) -> None:
    assert Silence().notice("BTCUSDT", None, chosen, MINUTE) is None


def test_a_prediction_names_the_bits_it_was_made_from(chosen: Chosen) -> None:
    assert chosen.artefact is not None
    row = at(60)
    online = made_online(row)
    assert online.sequence is not None
    made = answer(row, online, chosen, row.created, chosen.artefact.run)
    assert (made.row_hash, made.sequence_hash) == (row_hash(row), sequence_hash(online.sequence))
    other = row.model_copy(update={"values": row.values | {"spread_1s": math.nextafter(0.01, 1.0)}})
    assert row_hash(other) != made.row_hash
    assert answer(other, online, chosen, row.created, chosen.artefact.run).sequence_hash == made.sequence_hash


def test_an_answer_without_a_sequence_names_its_row_alone_and_a_notice_nothing(chosen: Chosen) -> None:
    assert chosen.artefact is not None
    row = at(60)
    made = answer(row, None, chosen, row.created, chosen.artefact.run)
    assert (made.tier, made.row_hash, made.sequence_hash) == (5, row_hash(row), None)
    notice = Silence().notice("BTCUSDT", row, chosen, MINUTE + 600 * SECOND_NS)
    assert notice is not None
    assert (notice.row_hash, notice.sequence_hash) == (None, None)
