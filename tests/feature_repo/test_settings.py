"""Settings: the environment wins over the file, and a wrong value says which one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from feature_repo.settings import LOCAL_SECRET, ROOT, Ports, load_settings


def test_local_defaults_are_loopback_and_the_ports_file_equals_the_table() -> None:
    settings = load_settings({})
    assert settings.kafka == "127.0.0.1:19092"
    assert settings.redis == "redis://127.0.0.1:16379/0"
    assert settings.lake.startswith("file://")
    assert settings.ports == Ports()


@pytest.mark.parametrize(("name", "value", "field", "expected"), [
    ("CANDLEWICK_SYMBOLS", "BTCUSDT, ETHUSDT", "symbols", ("BTCUSDT", "ETHUSDT")),
    ("CRYPTO_SYMBOLS", "ETHUSDT", "symbols", ("ETHUSDT",)),
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092", "kafka", "kafka:9092"),
    ("CANDLEWICK_LAKE_URL", "s3://bucket/lake", "lake", "s3://bucket/lake"),
    ("CANDLEWICK_RUN_DIR", "/var/candlewick", "run_dir", Path("/var/candlewick")),
    ("CANDLEWICK_COST_FEE_BPS", "4.5", "cost_fee_bps", 4.5),
])
def test_the_environment_sets(name: str, value: str, field: str, expected: object) -> None:
    assert getattr(load_settings({name: value}), field) == expected


def test_a_port_can_be_set_alone() -> None:
    assert load_settings({"CANDLEWICK_PORTS_REDIS": "7000"}).ports == Ports(redis=7000)


def test_a_replay_has_its_own_lake_prefix_and_checkpoints() -> None:
    live = load_settings({"CANDLEWICK_LAKE_URL": "s3://bucket/lake", "CANDLEWICK_RUN_DIR": "/var/candlewick"})
    replayed = replace(live, namespace="tuesday")
    assert (live.lake, replayed.lake) == ("s3://bucket/lake", "s3://bucket/lake/replays/tuesday")
    assert live.checkpoints == Path("/var/candlewick/checkpoints")
    assert replayed.checkpoints == Path("/var/candlewick/replays/tuesday/checkpoints")


def test_nobody_outside_can_put_half_a_stack_under_another_name() -> None:
    assert load_settings({"CANDLEWICK_NAMESPACE": "tuesday"}).namespace == ""


@pytest.mark.parametrize(("environ", "message"), [
    ({"CANDLEWICK_PORTS_REDIS": "ninety"}, "ports.redis: expected 1 to 65535, found 'ninety'"),
    ({"CANDLEWICK_PORTS_REDIS": "70000"}, "ports.redis: expected 1 to 65535, found '70000'"),
    ({"CANDLEWICK_COST_FEE_BPS": "-1"}, "cost_fee_bps: expected a number of at least 0, found '-1'"),
    ({"CANDLEWICK_COST_SLIPPAGE_BPS": "nan"}, "cost_slippage_bps: expected a number of at least 0, found 'nan'"),
    ({"CANDLEWICK_PROFILE": "moon"}, "profile file expected at"),
])
def test_a_wrong_setting_is_named(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_settings(environ)


def test_an_unknown_setting_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "local.yaml").write_text("prots: {}\n")
    with pytest.raises(ValueError, match=r"unknown setting\(s\) in local.yaml: prots"):
        load_settings({}, root=tmp_path)


@pytest.mark.parametrize("profile", [path.stem for path in sorted((ROOT / "config").glob("*.yaml"))])
def test_every_committed_profile_loads(profile: str) -> None:
    environ = {"CANDLEWICK_PROFILE": profile, "CANDLEWICK_REDIS_WRITER_PASSWORD": "its own"}
    assert load_settings(environ).profile == profile


@pytest.mark.parametrize(("environ", "reads", "writes"), [
    ({}, "redis://127.0.0.1:16379/0", "redis://writer:candlewick-local@127.0.0.1:16379/0"),
    ({"CANDLEWICK_REDIS_WRITER_PASSWORD": "a@b"}, "redis://127.0.0.1:16379/0",
     "redis://writer:a%40b@127.0.0.1:16379/0"),
    ({"REDIS_URL": "redis://me:x@there:1/0"}, "redis://me:x@there:1/0", "redis://me:x@there:1/0"),
    ({"REDIS_URL": "redis://there:1/0", "CANDLEWICK_REDIS_WRITER_URL": "redis://w:x@there:1/0"}, "redis://there:1/0",
     "redis://w:x@there:1/0"),
])
def test_who_writes_has_an_address_of_its_own(environ: dict[str, str], reads: str, writes: str) -> None:
    settings = load_settings(environ)
    assert (settings.redis, settings.redis_writer) == (reads, writes)


@pytest.mark.parametrize("password", ["", LOCAL_SECRET])
def test_the_default_secret_is_for_the_local_profile_alone(password: str) -> None:
    environ = {"CANDLEWICK_PROFILE": "dev", "CANDLEWICK_REDIS_WRITER_PASSWORD": password}
    with pytest.raises(ValueError, match="CANDLEWICK_REDIS_WRITER_PASSWORD"):
        load_settings(environ)
    own = {**environ, "CANDLEWICK_REDIS_WRITER_URL": "redis://w:x@there:1/0"}
    assert load_settings(own).redis_writer == "redis://w:x@there:1/0"


def test_no_secret_is_printed() -> None:
    environ = {"REDIS_URL": "redis://:s3cr3t@there:1/0", "CANDLEWICK_REDIS_WRITER_PASSWORD": "s3cr3t"}
    assert "s3cr3t" not in repr(load_settings(environ))
