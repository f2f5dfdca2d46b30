"""Feast's configuration from our settings: what `feature_store.yaml` says, for a process that has settings.

    apply(settings)                       # what `feast apply` does; deployment's and tests' business
    store = open_feast(settings)          # imports Feast (seconds)
"""

from __future__ import annotations

from typing import Any

from feast import FeatureStore as Feast
from feast import RepoConfig

from feature_repo.settings import ROOT, Settings
from feature_repo.views import PROJECT


def repo_config(settings: Settings) -> RepoConfig:
    """The same stores as `feature_store.yaml`, at the places of these settings."""
    config = RepoConfig(
        project=PROJECT, provider="local", entity_key_serialization_version=3,
        registry={
            "registry_store_type": "feature_repo.registry_store.RunRegistryStore", "path": str(settings.registry),
            "cache_ttl_seconds": 60,
        },
        online_store={
            "type": "feature_repo.online_store.NewestWinsOnlineStore", "redis_url": settings.redis,
            "redis_writer_url": settings.redis_writer, "symbols": settings.symbols,
        },
        offline_store={
            "type": "feature_repo.offline_store.LakeOfflineStore", "lake_url": settings.lake,
            "s3_endpoint": settings.s3_endpoint,
        },
        materialization={"pull_latest_features": True},
    )
    config.repo_path = ROOT / "feature_repo"
    return config


def open_feast(settings: Settings) -> Any:
    """Feast's FeatureStore over these settings."""
    return Feast(config=repo_config(settings))


def apply(settings: Settings) -> None:
    """Write our definitions to the registry of these settings, the models' services too, as `feast apply` does.

    Raises `ValueError` when a served model reads a feature that is not declared.
    """
    from feature_repo.definitions import objects, services_of
    from feature_repo.models import models, refuse_unread

    refuse_unread(settings)

    open_feast(settings).apply([*objects, *services_of(models(settings)).values()])
