"""A stranger's book is compared level by level, at its own update."""

from __future__ import annotations

from streaming.venues.binance import DepthFrame, Snapshot
from tests.bench.strangers import Heard, Told, report, verdicts

CLIENT = "python-binance"
HEARD = {"BTCUSDT": Heard(
    Snapshot(10, bids=((100, 5), (99, 1)), asks=((102, 7),)),
    [DepthFrame("BTCUSDT", 1_000, 11, 12, bids=((101, 3),), asks=()),
     DepthFrame("BTCUSDT", 1_100, 13, 14, bids=((99, 0),), asks=((102, 8),))],
)}
AT_12 = Told("BTCUSDT", 12, [(101, 3), (100, 5), (99, 1)], [(102, 7)])
AT_14 = Told("BTCUSDT", 14, [(101, 3), (100, 5)], [(102, 8)])


def test_books_told_out_of_order_are_each_compared_at_their_own_update() -> None:
    verdict = verdicts({CLIENT: [AT_14, AT_12]}, HEARD)[CLIENT]["BTCUSDT"]
    assert (verdict.books, verdict.levels, verdict.unequal) == (2, 7, 0)


def test_a_quantity_a_missing_level_and_an_unknown_update_are_each_found() -> None:
    told = [
        Told("BTCUSDT", 12, [(101, 4), (100, 5), (99, 1)], [(102, 7)]), Told("BTCUSDT", 14, [(101, 3)], [(102, 8)]),
        Told("BTCUSDT", 13, AT_14.bids, AT_14.asks),
    ]
    verdict = verdicts({CLIENT: told}, HEARD)[CLIENT]["BTCUSDT"]
    assert (verdict.books, verdict.unequal) == (3, 3)
    assert verdict.first_difference == "BTCUSDT 12: bid 0: expected (101, 3), found (101, 4)"


def test_a_client_that_told_nothing_does_not_pass() -> None:
    silent = verdicts({CLIENT: []}, HEARD)
    assert not report(silent, {}, "simulated", 10.0)["passed"]
    assert report(verdicts({CLIENT: [AT_12, AT_14]}, HEARD), {}, "simulated", 2.0)["passed"]
    assert not report(verdicts({CLIENT: [AT_12, AT_14]}, HEARD), {CLIENT: "exit 1"}, "simulated", 2.0)["passed"]
