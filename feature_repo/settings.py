"""Settings: the environment and `config/<profile>.yaml`, read once, handed on as one frozen value.

    >>> load_settings({"CANDLEWICK_SYMBOLS": "BTCUSDT,ETHUSDT"}).symbols
    ('BTCUSDT', 'ETHUSDT')

The environment wins over the file, the file over the defaults here. Only entry points call
`load_settings`; everything else takes what it needs as an argument.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "CANDLEWICK_"
LOOPBACK = "127.0.0.1"
WRITER = "writer"
"""The user of the local Redis who may write; everyone else reads."""
LOCAL_SECRET = "candlewick-local"  # noqa: S105  of a server on loopback; no other profile takes it
REPLAYS = "replays"
"""Folder of the replays, in the run folder and in the lake."""
# Names other tools of the field use for the same thing.
ALIASES = {"KAFKA_BOOTSTRAP_SERVERS": "kafka_bootstrap", "CRYPTO_SYMBOLS": "symbols", "REDIS_URL": "redis_url"}


@dataclass(frozen=True)
class Ports:
    """One table of loopback ports."""

    kafka: int = 19092
    kafka_controller: int = 19093
    redis: int = 16379
    exchange: int = 18080
    ingest: int = 18101
    streaming: int = 18102
    monitoring: int = 18103
    publisher: int = 18104
    pollers: int = 18105
    service: int = 18300
    frontend: int = 13000
    prometheus: int = 19090
    mlflow: int = 15000
    feast_ui: int = 18888


@dataclass(frozen=True)
class Settings:
    """Everything a deployment may change. Paths are absolute; URLs carry their scheme."""

    profile: str = "local"
    """Which `config/<profile>.yaml` was read."""
    ports: Ports = field(default_factory=Ports)
    """Loopback ports of the one-machine stack."""
    symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT")
    """Canonical instrument ids to follow; `candlewick symbols` adds and removes others while the stack runs."""
    run_dir: Path = ROOT / ".run"
    """State, logs, checkpoints and data of this machine's stack; safe to delete when it is down."""
    jars_dir: Path = ROOT / ".run" / "jars"
    """Cache of the broker's and Spark's jars, shared by every run directory."""
    data_dir: Path = ROOT.parent / "shared" / "data"
    """Recorded market data, read only; may be absent."""
    kafka_bootstrap: str = ""
    """Kafka brokers, `host:port,host:port`; empty means the local broker's port."""
    redis_url: str = field(default="", repr=False)
    """Online store; empty means the local Redis port."""
    redis_writer_url: str = field(default="", repr=False)
    """The same as a user who may write; empty means `redis_url`, or the local Redis as its writer."""
    redis_writer_password: str = field(default=LOCAL_SECRET, repr=False)
    """Of the local Redis's writer."""
    lake_url: str = ""
    """Root of the lake: `file://…` or `s3://bucket/prefix`; empty means `<run_dir>/lake`."""
    s3_endpoint: str = ""
    """S3 endpoint URL when it is not AWS's own."""
    lake_retention: tuple[str, ...] = ("raw=30",)
    """`zone=days`: how long the stream keeps a zone's hours; a zone that is not named is kept for ever."""
    certify_every_s: int = 300
    """Seconds between two skew certificates of the running stack; 0 makes none."""
    model_dir: Path = ROOT / "models" / "bootstrap"
    """Folder of the artefact served at start: model.onnx, meta.json, SHA256SUMS."""
    venue_ws: tuple[str, ...] = ("wss://stream.binance.com:9443", "wss://data-stream.binance.vision")
    """WebSocket hosts, tried in order."""
    venue_rest: tuple[str, ...] = ("https://api.binance.com", "https://data-api.binance.vision")
    """REST hosts, tried in order."""
    venue_usdm_ws: tuple[str, ...] = ("wss://fstream.binance.com",)
    """WebSocket hosts of USD-M futures, tried in order."""
    venue_usdm_rest: tuple[str, ...] = ("https://fapi.binance.com",)
    """REST hosts of USD-M futures, tried in order."""
    bybit_rest: tuple[str, ...] = ("https://api.bybit.com", "https://api.bytick.com")
    """REST hosts of the second source of funding rates, tried in order."""
    yahoo_rest: tuple[str, ...] = ("https://query1.finance.yahoo.com", "https://query2.finance.yahoo.com")
    """Hosts of the macro series' first provider, tried in order."""
    fred_rest: tuple[str, ...] = ("https://fred.stlouisfed.org",)
    """Hosts of their second."""
    fear_greed_rest: tuple[str, ...] = ("https://api.alternative.me",)
    """Hosts of the Fear & Greed index, tried in order."""
    history_days: int = 30
    """Days of minute bars that ingest's first start brings into the lake; 0 brings none."""
    mlflow_uri: str = ""
    """MLflow tracking store; empty means sqlite under `<run_dir>/mlflow`."""
    cost_fee_bps: float = 10.0
    """Fee of one side of a trade, basis points: Binance spot's public default tier."""
    cost_half_spread_bps: float = 0.05
    """Half the spread, basis points, where the book is not known."""
    cost_slippage_bps: float = 1.0
    """What a price moves between decision and fill, basis points a side; an assumption."""
    allowed_origins: tuple[str, ...] = ()
    """Extra origins that may open the WebSocket; the page's own is always allowed."""
    log_level: str = "info"
    """debug | info | warning | error."""
    namespace: str = ""
    """A replay's name: its own topics, online keys, lake prefix and checkpoints. Empty: the live ones. Set by
    `candlewick replay` alone, never read from outside: half a stack under another name would mix the two."""

    @property
    def kafka(self) -> str:
        return self.kafka_bootstrap or f"{LOOPBACK}:{self.ports.kafka}"

    @property
    def redis(self) -> str:
        return self.redis_url or f"redis://{LOOPBACK}:{self.ports.redis}/0"

    @property
    def redis_writer(self) -> str:
        return self.redis_writer_url or self.redis_url or self.writer_at(self.ports.redis)

    def writer_at(self, port: int) -> str:
        """The local Redis as its writer, at a port that leads to it."""
        return f"redis://{WRITER}:{quote(self.redis_writer_password, safe='')}@{LOOPBACK}:{port}/0"

    @property
    def lake(self) -> str:
        root = self.lake_url or (self.run_dir / "lake").as_uri()
        return f"{root.rstrip('/')}/{REPLAYS}/{self.namespace}" if self.namespace else root

    @property
    def checkpoints(self) -> Path:
        return (self.run_dir / REPLAYS / self.namespace if self.namespace else self.run_dir) / "checkpoints"

    @property
    def mlflow(self) -> str:
        return self.mlflow_uri or f"sqlite:///{self.run_dir / 'mlflow' / 'mlflow.db'}"

    @property
    def registry(self) -> Path:
        return self.run_dir / "feast" / "registry.db"


def load_settings(environ: Mapping[str, str] | None = None, root: Path = ROOT) -> Settings:
    """Read the profile's file and the environment. Raises `ValueError` naming the setting that is wrong."""
    env = dict(os.environ if environ is None else environ)
    profile = env.get(f"{PREFIX}PROFILE", "local")
    return settings_of(_read_profile(root / "config" / f"{profile}.yaml"), env, profile)


def settings_of(raw: Mapping[str, Any], env: Mapping[str, str], profile: str = "local") -> Settings:
    """The settings that a profile's content and an environment make. Raises `ValueError` as `load_settings`.

    >>> settings_of({"ports": {"redis": 1}}, {"CANDLEWICK_PORTS_KAFKA": "2"}).redis
    'redis://127.0.0.1:1/0'
    """
    values = {name: _convert(name, value) for name, value in raw.items() if name != "ports"}
    values |= {name: _convert(name, env[alias]) for alias, name in ALIASES.items() if env.get(alias)}
    values |= {
        f.name: _convert(f.name, env[PREFIX + f.name.upper()])
        for f in fields(Settings)
        if f.name != "namespace" and env.get(PREFIX + f.name.upper())
    }
    return _checked(Settings(**{**values, "profile": profile, "ports": _ports(raw.get("ports", {}), env)}))


def _checked(settings: Settings) -> Settings:
    """No profile but `local` starts with a secret that everybody knows, or with none."""
    own_redis = not settings.redis_url and not settings.redis_writer_url
    if settings.profile != "local" and own_redis and settings.redis_writer_password in ("", LOCAL_SECRET):
        raise ValueError(
            f"redis_writer_password: expected one of its own in profile {settings.profile}, found the default; "
            f"set {PREFIX}REDIS_WRITER_PASSWORD",
        )
    return settings


def _read_profile(path: Path) -> dict[str, Any]:
    import yaml  # not at the top: the doctor reads the environment before any package is there

    if not path.exists():
        raise ValueError(f"profile file expected at {path}, found none; set {PREFIX}PROFILE to one in config/")
    raw = yaml.safe_load(path.read_text()) or {}
    unknown = set(raw) - {f.name for f in fields(Settings) if f.name != "namespace"}
    if unknown:
        raise ValueError(f"unknown setting(s) in {path.name}: {', '.join(sorted(unknown))}")
    return dict(raw)


def _ports(raw: Mapping[str, Any], env: Mapping[str, str]) -> Ports:
    names = {f.name for f in fields(Ports)}
    if unknown := set(raw) - names:
        raise ValueError(f"unknown port(s): {', '.join(sorted(unknown))}; expected some of {', '.join(sorted(names))}")
    merged = {name: env.get(f"{PREFIX}PORTS_{name.upper()}", raw.get(name)) for name in names}
    return Ports(**{name: _port(name, value) for name, value in merged.items() if value is not None})


def _port(name: str, value: Any) -> int:
    try:
        port = int(value)
    except (TypeError, ValueError):
        port = 0
    if not 0 < port < 65536:
        raise ValueError(f"ports.{name}: expected 1 to 65535, found {value!r}")
    return port


def _convert(name: str, value: Any) -> Any:
    kind = {f.name: f.type for f in fields(Settings)}[name]
    if kind == "Path":
        return Path(value).expanduser().resolve()
    if kind == "tuple[str, ...]":
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(part.strip() for part in parts if part.strip())
    if kind == "int":
        if not str(value).isdecimal():
            raise ValueError(f"{name}: expected a whole number, found {value!r}")
        return int(value)
    if kind == "float":
        return _amount(name, value)
    return str(value)


def _amount(name: str, value: Any) -> float:
    try:
        amount = float(value)
    except (TypeError, ValueError):
        amount = -1.0
    if not 0.0 <= amount < float("inf"):
        raise ValueError(f"{name}: expected a number of at least 0, found {value!r}")
    return amount
