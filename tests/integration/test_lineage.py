"""Lineage from topic to model, as Feast's own lineage code and the server behind `feast ui` tell it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from feature_repo import topics
from feature_repo.contracts import FeatureRow
from feature_repo.models import models
from feature_repo.settings import Settings
from feature_repo.views import CONTEXT_VIEW, FAMILY_VIEWS, PROJECT

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def feast(tmp_path: Path, applied: Path) -> Any:
    from feature_repo.feast_config import open_feast

    settings = Settings(run_dir=tmp_path)
    settings.registry.parent.mkdir(parents=True)
    shutil.copy(applied, settings.registry)
    return open_feast(settings)


def test_feasts_lineage_leads_from_the_lakes_rows_to_the_model(feast: Any) -> None:
    from feast.lineage.registry_lineage import RegistryLineageGenerator

    direct, _ = RegistryLineageGenerator().generate_lineage(feast.registry.proto())
    edges = {(e.source.type.value, e.source.name, e.target.type.value, e.target.name) for e in direct}
    [model] = models(Settings(run_dir=feast.repo_path / "nowhere"))
    read = {view.name for view in FAMILY_VIEWS if set(view.names) & set(model.features)}
    into_service = {source for _, source, kind, target in edges if kind == "featureService" and target == model.service}
    assert into_service == read | {CONTEXT_VIEW.name}
    assert {("dataSource", "lake_features", "featureView", name) for name in read} <= edges
    assert ("dataSource", "lake_context", "featureView", CONTEXT_VIEW.name) in edges


def test_tags_lead_on_from_the_topic_and_to_the_training_set(feast: Any) -> None:
    source = feast.get_data_source("lake_features")
    assert source.tags == {
        "topic": topics.FEATURES, "schema": topics.header(FeatureRow), "made_from": "crypto.<base>.trades",
    }
    [model] = models(Settings(run_dir=feast.repo_path / "nowhere"))
    meta = json.loads((Settings().model_dir / "meta.json").read_text())
    assert feast.get_feature_service(model.service).tags == {
        "model": meta["name"], "version": meta["version"], "feature_set": meta["feature_set"],
        "dataset": meta["dataset"]["identity"], "mlflow_run_id": meta["run_id"],
    }


@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")  # Feast's own call of FastAPI
async def test_the_server_behind_feast_ui_tells_the_same(feast: Any) -> None:
    from feast.ui_server import get_app

    [model] = models(Settings(run_dir=feast.repo_path / "nowhere"))
    path = f"/api/v1/lineage/objects/featureService/{model.service}"
    app = httpx.ASGITransport(app=get_app(feast, PROJECT))
    async with httpx.AsyncClient(transport=app, base_url="http://ui") as client:
        page = await client.get(f"/p/{PROJECT}/lineage")
        listed = await client.get("/projects-list.json")
        told = await client.get(path, params={"project": PROJECT, "include_indirect": True})
    assert 'id="root"' in page.text
    assert listed.json()["projects"][0]["id"] == PROJECT
    sources = [edge["source"] for edge in told.json()["relationships"]]
    assert {"type": "featureView", "name": "price_features"} in sources
    assert {"type": "feature", "name": "realized_vol_15m"} in sources
