"""Prometheus: its configuration written from the settings' ports, its rules from `monitoring/rules`."""

from __future__ import annotations

from typing import Any

import yaml

from feature_repo.settings import LOOPBACK, ROOT, Settings

RULES = ROOT / "monitoring" / "rules"
SCRAPED = ("ingest", "streaming", "monitoring", "publisher", "pollers", "service")


def config(settings: Settings) -> dict[str, Any]:
    """One scrape job for each of our processes, every 5 s, and all rule files that are not tests."""
    rules = sorted(str(path) for path in RULES.glob("*.y*ml") if "test" not in path.name)
    return {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": rules,
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": [f"{LOOPBACK}:{getattr(settings.ports, name)}"]}]}
            for name in SCRAPED
        ],
    }


def command(settings: Settings) -> list[str]:
    """Write the configuration and say what to run: a week of history, loopback only."""
    folder = settings.run_dir / "prometheus"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config(settings), sort_keys=False))
    return [
        "prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=7d", f"--web.listen-address={LOOPBACK}:{settings.ports.prometheus}",
        "--log.level=warn",
    ]
