"""The model runs once a row; the age of a row is judged at every request; faults are answers, not errors."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bentos.answers import Answers
from bentos.artefact import load_artefact
from bentos.champion import Chosen
from bentos.metrics import ServiceMetrics
from bentos.predictor import OUTPUT_NAMES
from bentos.readiness import readiness
from feature_repo.contracts import MINUTE_NS, SECOND_NS, Prediction, PredictRequest, StoreUnavailable
from feature_repo.store import OnlineRow
from tests.bentos.made import MINUTE, made_artefact, made_graph, made_online, made_row, sign


@dataclass
class Held:
    """An online store with one row, that counts its reads and can be taken away."""

    row: OnlineRow | None
    is_up: bool = True
    reads: list[str] = field(default_factory=list)

    async def version(self, symbol: str) -> tuple[int, int] | None:
        assert symbol == "BTCUSDT"
        self.reads.append("version")
        await asyncio.sleep(0)
        if not self.is_up:
            raise StoreUnavailable("Redis expected at 127.0.0.1:1")
        return None if self.row is None else (self.row.row.ts_event, self.row.row.created)

    async def read(self, symbol: str) -> OnlineRow | None:
        assert symbol == "BTCUSDT"
        self.reads.append("read")
        return self.row


@dataclass
class Watch:
    """A watch that hears nothing unless it is told."""

    is_listening: bool = False
    changes: int = 0
    read_at: int = -1

    def is_unchanged(self, symbol: str) -> bool:
        return self.is_listening and symbol == "BTCUSDT" and self.read_at == self.changes

    def change(self, symbol: str) -> int:
        assert symbol == "BTCUSDT"
        return self.changes

    def has_read(self, symbol: str, change: int) -> None:
        assert symbol == "BTCUSDT"
        self.read_at = change


@dataclass
class World:
    answers: Answers
    store: Held
    now_ns: int = MINUTE + SECOND_NS
    watch: Watch = field(default_factory=Watch)

    async def ask(self, **fields: object) -> Prediction:
        request = PredictRequest.model_validate({"symbol": "BTCUSDT", **fields})
        return Prediction.model_validate_json(await self.answers.requested(request))


@pytest.fixture
def world(tmp_path: Path) -> World:
    store = Held(made_online(made_row(MINUTE, return_1m=0.002, spread_1s=0.01)))
    chosen = Chosen(load_artefact(made_artefact(tmp_path / "model")), "bootstrap")
    made = World(None, store)  # type: ignore[arg-type]
    made.answers = Answers(store, chosen, lambda: made.now_ns, ServiceMetrics(), made.watch)
    return made


async def test_a_row_is_read_and_inferred_once_however_often_it_is_asked_for(world: World) -> None:
    answers = [await world.ask() for _ in range(5)]
    assert len({a.model_dump_json() for a in answers}) == 1
    assert world.store.reads == ["version", "read", "version", "version", "version", "version"]
    assert answers[0].tier == 1


async def test_requests_that_arrive_together_share_one_look_at_the_version(world: World) -> None:
    await world.ask()
    world.store.reads.clear()
    await asyncio.gather(*(world.ask() for _ in range(8)))
    assert world.store.reads == ["version"]


async def test_a_watched_row_is_read_once_and_again_when_it_changes(world: World) -> None:
    world.watch.is_listening = True
    for _ in range(3):
        await world.ask()
    assert world.store.reads == ["version", "read"]
    world.store.row = made_online(made_row(MINUTE + SECOND_NS))
    world.watch.changes += 1
    assert (await world.ask()).ts_event == MINUTE + SECOND_NS
    assert world.store.reads == ["version", "read", "version", "read"]


async def test_requests_before_the_first_read_is_done_wait_for_it(world: World) -> None:
    world.watch.is_listening = True
    answers = await asyncio.gather(*(world.ask() for _ in range(8)))
    assert {made.tier for made in answers} == {1}


async def test_a_watched_row_still_grows_old(world: World) -> None:
    world.watch.is_listening = True
    assert (await world.ask()).tier == 1
    world.now_ns = MINUTE + 4 * SECOND_NS
    assert (await world.ask()).tier == 5


async def test_a_new_row_is_seen_by_the_next_request(world: World) -> None:
    first = await world.ask()
    world.store.row = made_online(made_row(MINUTE + SECOND_NS, return_1m=-0.002))
    second = await world.ask()
    assert (first.ts_event, second.ts_event) == (MINUTE, MINUTE + SECOND_NS)
    assert first.signal is not None
    assert second.signal is not None
    assert first.signal > 0 > second.signal


async def test_the_same_row_becomes_safe_mode_as_it_ages_and_says_how_old_it_is(world: World) -> None:
    assert (await world.ask()).tier == 1
    world.now_ns = MINUTE + 4_500_000_000
    stale = await world.ask()
    assert (stale.tier, stale.signal, stale.should_trade) == (5, None, False)
    assert stale.reasons == ["features are 4.5 s old; tier 1 allows 3 s"]


async def test_an_empty_store_is_answered(world: World) -> None:
    world.store.row = None
    made = await world.ask()
    assert (made.tier, made.reasons) == (5, ["no feature row in the online store"])


async def test_a_store_that_goes_away_is_answered_and_comes_back(world: World) -> None:
    assert (await world.ask()).tier == 1
    world.store.is_up = False
    assert (await world.ask()).reasons == ["Redis expected at 127.0.0.1:1"]
    world.store.is_up = True
    assert (await world.ask()).tier == 1


async def test_without_a_model_the_reason_is_the_refusal(world: World) -> None:
    world.answers.chosen = Chosen(None, "none", "bootstrap model refused: checksum")
    made = await world.ask()
    assert (made.tier, made.model_version, made.reasons) == (5, "none", ["bootstrap model refused: checksum"])


async def test_a_model_from_before_the_edge_at_15_minutes_is_served_and_says_why_it_does_not_trade_there(
    world: World, tmp_path: Path,
) -> None:
    fresh = await world.ask()
    assert (fresh.should_trade, fresh.should_trade_15m, fresh.reasons) == (True, True, [])
    folder = made_artefact(tmp_path / "old")
    (folder / "model.onnx").write_bytes(made_graph(OUTPUT_NAMES).SerializeToString())
    world.answers.chosen = Chosen(load_artefact(sign(folder)), "registry")
    world.store.row = made_online(made_row(MINUTE + MINUTE_NS, return_1m=0.002, spread_1s=0.01))
    world.now_ns += MINUTE_NS
    old = await world.ask()
    assert (old.tier, old.should_trade, old.should_trade_15m, old.expected_edge_15m_bps) == (1, True, False, None)
    assert old.reasons == ["no trade at 15 min: the model gives no expected edge"]


async def test_explicit_fields_change_the_answer_and_are_named(world: World) -> None:
    plain, asked = await world.ask(), await world.ask(momentum={"1m": -0.004}, volatility=0.002)
    assert asked.tier == 1
    assert asked.p_up is not None
    assert plain.p_up is not None
    assert asked.p_up < 0.5 < plain.p_up
    assert asked.volatility_15m == pytest.approx(0.002)
    assert "explicit input set realized_vol_15m, return_1m" in asked.reasons
    assert await world.ask() == plain


async def test_an_explicit_value_out_of_distribution_does_not_trade(world: World) -> None:
    made = await world.ask(momentum={"1m": 0.3})
    assert not made.should_trade
    assert any("out of distribution: return_1m" in reason for reason in made.reasons)


@pytest.mark.parametrize(("fields", "message"), [
    ({"momentum": {"2m": 0.1}}, "momentum: expected windows among 1m, 5m"),
    ({"timestamp": MINUTE + 3_600 * SECOND_NS}, "timestamp: expected at most now"),
])
async def test_what_can_never_be_answered_is_refused(world: World, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        await world.ask(**fields)


async def test_the_past_is_not_answered_with_the_present(world: World) -> None:
    assert (await world.ask(timestamp=MINUTE)).tier == 1
    made = await world.ask(timestamp=MINUTE - 90 * SECOND_NS)
    assert made.tier == 5
    assert made.reasons == ["timestamp is 90.0 s before the newest row; only the present can be asked here"]


@pytest.mark.parametrize(("model", "store", "ages_s", "reasons"), [
    (None, None, {"BTCUSDT": 59.9}, []),
    (None, None, {"BTCUSDT": 61.0, "ETHUSDT": 1.0}, []),
    (None, None, {"BTCUSDT": 61.0, "ETHUSDT": None}, [
        "features of BTCUSDT are 61 s old; ready up to 60 s", "no features of ETHUSDT in the online store"]),
    (None, None, {"BTCUSDT": None}, ["no features of BTCUSDT in the online store"]),
    ("refused", None, {"BTCUSDT": 1.0}, ["refused"]),
    (None, "away", {"BTCUSDT": 99.0}, ["away"]),
])
def test_readiness_tells_the_truth(
    model: str | None, store: str | None, ages_s: dict[str, float | None], reasons: list[str],
) -> None:
    found = readiness(model, store, ages_s)
    assert (found.ready, found.reasons) == (not reasons, reasons)
