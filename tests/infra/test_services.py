"""The table of services, the choice of a market, and what children find in their environment."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from feature_repo.health import serve
from feature_repo.settings import LOOPBACK, Settings, load_settings
from infra.stack import prometheus, services, venue
from infra.stack.probes import Health, Probe, examine
from infra.stack.service import in_order

HOUR_NS = 3600 * 1_000_000_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return replace(load_settings({}), run_dir=tmp_path / "run", data_dir=tmp_path / "data")


def nobody(_hosts: Sequence[str]) -> None:
    return None


def test_the_venue_is_taken_when_it_answers_whatever_else_there_is(settings: Settings) -> None:
    assert venue.choose(settings, "auto", reach=lambda hosts: hosts[1]) == "live"


def test_without_a_venue_a_recording_is_played_and_without_one_the_simulator(settings: Settings) -> None:
    assert venue.choose(settings, "auto", reach=nobody) == "simulated"
    (settings.data_dir / venue.RECORDINGS).mkdir(parents=True)
    assert venue.choose(settings, "auto", reach=nobody) == "recording"


def test_what_a_person_asks_for_is_used_unasked(settings: Settings) -> None:
    assert venue.choose(settings, "simulated", reach=lambda hosts: hosts[0]) == "simulated"
    with pytest.raises(ValueError, match="expected one of auto, live, recording, simulated; found 'tape'"):
        venue.wanted("tape")


def test_a_host_that_accepts_and_says_nothing_is_out_of_reach_in_time() -> None:
    with socket.socket() as mute:
        mute.bind((LOOPBACK, 0))
        mute.listen()
        host = f"http://{LOOPBACK}:{mute.getsockname()[1]}"
        assert venue.reachable([host, "http://127.0.0.1:9"], timeout_s=0.3) is None


@pytest.mark.parametrize(
    ("kept", "now", "expected"),
    [
        pytest.param(None, 5 * HOUR_NS, 5 * HOUR_NS, id="first start"),
        pytest.param(5 * HOUR_NS, 28 * HOUR_NS, 5 * HOUR_NS, id="same day: go on where it would have been"),
        pytest.param(5 * HOUR_NS, 30 * HOUR_NS, 30 * HOUR_NS, id="older than a day: anew"),
        pytest.param(9 * HOUR_NS, 5 * HOUR_NS, 5 * HOUR_NS, id="from the future: anew"),
    ],
)
def test_the_exchange_keeps_its_anchor_for_a_day(tmp_path: Path, kept: int | None, now: int, expected: int) -> None:
    if kept is not None:
        venue.anchor(tmp_path, kept)
    assert venue.anchor(tmp_path, now) == expected


def test_every_table_can_be_started_in_order(settings: Settings) -> None:
    for source in ("live", "recording", "simulated"):
        names = [s.name for level in in_order(services.table(settings, source)) for s in level]  # type: ignore[arg-type]
        assert names.index("kafka") < names.index("topics") < names.index("ingest")
        assert names.index("redis") < names.index("service")
        assert ("exchange" in names) == (source != "live")


def test_pollers_ask_the_world_only_with_a_market_and_hold_up_nobody(settings: Settings) -> None:
    for source, arguments in (("live", ()), ("recording", ("--local",)), ("simulated", ("--local",))):
        [pollers] = [s for s in services.table(settings, source) if s.name == "pollers"]  # type: ignore[arg-type]
        assert pollers.command[3:] == arguments
        assert not pollers.awaited


def test_what_a_ready_process_tells_beside_is_its_message() -> None:
    server = serve(LOOPBACK, 0, dict, notes=lambda: {"vix": "off: no market", "gold": "off: no market"})
    try:
        port = server.server_address[1]
        assert examine(Probe("http", port)) == (Health.READY, "vix, gold: off: no market")
    finally:
        server.shutdown()
        server.server_close()


def test_no_two_services_share_a_port(settings: Settings) -> None:
    ports = list(services.ports(services.table(settings, "recording", on_path=lambda name: name)).values())
    assert len(ports) == len(set(ports)) >= 10


def test_children_are_sent_to_the_local_exchange_only_without_a_venue(settings: Settings) -> None:
    local = services.environment(settings, "recording")
    assert local["CANDLEWICK_VENUE_REST"] == f"http://{LOOPBACK}:{settings.ports.exchange}"
    assert "CANDLEWICK_VENUE_REST" not in services.environment(settings, "live")
    assert local["CANDLEWICK_VENUE_USDM_REST"] == local["CANDLEWICK_VENUE_REST"]
    told = load_settings(local)
    assert told.venue_ws == (f"ws://{LOOPBACK}:{settings.ports.exchange}",)
    assert told.run_dir == settings.run_dir


def test_every_address_is_on_loopback(settings: Settings) -> None:
    table = services.table(settings, "recording", on_path=lambda name: name)
    assert {s.address.split(":")[-2].strip("/") for s in table if s.address} <= {LOOPBACK, "localhost"}
    assert f"--web.listen-address={LOOPBACK}:{settings.ports.prometheus}" in prometheus.command(settings)


def test_prometheus_scrapes_every_process_of_ours_and_no_rule_test(settings: Settings) -> None:
    config = prometheus.config(settings)
    assert [job["job_name"] for job in config["scrape_configs"]] == list(prometheus.SCRAPED)
    assert not [path for path in config["rule_files"] if "test" in Path(path).name]


def test_a_probe_of_a_closed_port_is_silence_with_its_reason() -> None:
    health, words = examine(Probe("redis", 9, timeout_s=0.5))
    assert health is Health.SILENT
    assert "127.0.0.1:9" in words
