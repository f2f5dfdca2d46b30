"""Definitions: every Feast object of the project, derived from the views; the one module `feast apply` reads.

    cd feature_repo && ../.venv/bin/feast apply

All objects are made here and nowhere else: Feast compares them by identity, and a second module that imports
them would make copies.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, Project, ValueType
from feast.types import Bytes, Float64, Int64, String

from feature_repo import topics
from feature_repo.contracts import Bar, FeatureRow, Observation
from feature_repo.models import Model, model_services, models, refuse_unread
from feature_repo.offline_store import LakeSource
from feature_repo.settings import load_settings
from feature_repo.slow_features import VIEW_OF
from feature_repo.views import ENTITY, PROJECT, SLOW_VIEWS, STORED_VIEWS, View, definitions_hash, services

_TYPES = {"double": Float64, "int64": Int64, "string": String, "bytes": Bytes}

project = Project(
    name=PROJECT, description="Features of the live Bitcoin market, as they were known.",
    tags={"definitions": definitions_hash()},
)
symbol = Entity(
    name=ENTITY, join_keys=[ENTITY], value_type=ValueType.STRING, description="Instrument id, such as BTCUSDT",
)


def _topics(slow_view: str) -> str:
    return ", ".join(dict.fromkeys(topics.slow_topic(series, "<base>") for series in VIEW_OF[slow_view].series))


# Lineage from the topic on: Feast draws source → view → service, these tags say what a source is made of, and those of
# a service which model reads it.
TOPIC = {"topic": topics.FEATURES, "schema": topics.header(FeatureRow), "made_from": "crypto.<base>.trades"}
sources = {
    "features": LakeSource(
        name="lake_features", zone="features", description="Feature rows, one a second and symbol", tags=TOPIC,
    ),
    "context": LakeSource(
        name="lake_context", zone="context", description="The slow view, one row an hour",
        tags={"topic": topics.CLEAN, "schema": topics.header(Bar), "made_from": TOPIC["made_from"]},
    ),
    **{
        view.zone: LakeSource(
            name=f"lake_{view.zone}", zone=str(view.zone), description=view.description,
            tags={"topic": _topics(str(view.zone)), "schema": topics.header(Observation)},
        )
        for view in SLOW_VIEWS
    },
    None: LakeSource(
        name="online_only", description="Written by the stream, rebuilt offline: no history", tags=TOPIC,
    ),
}


def _view(view: View) -> FeatureView:
    return FeatureView(
        name=view.name, entities=[symbol], ttl=timedelta(seconds=view.ttl_s), source=sources[view.zone],
        schema=[Field(name=ENTITY, dtype=String)] + [
            Field(name=c.name, dtype=_TYPES[c.kind], description=c.description) for c in view.columns
        ],
        description=view.description,
    )


def _service(name: str, taken: dict[str, tuple[str, ...]], **about: Any) -> FeatureService:
    return FeatureService(name=name, features=[views[view][list(names)] for view, names in taken.items()], **about)


def _lineage(model: Model) -> dict[str, str]:
    """From a service to its model; what an older artefact does not say is left out."""
    tags = {
        "model": model.name, "version": model.version, "feature_set": model.feature_set, "dataset": model.dataset,
        "mlflow_run_id": model.run_id,
    }
    return {name: value for name, value in tags.items() if value}


def services_of(held: Iterable[Model]) -> dict[str, FeatureService]:
    """A feature service for each model version whose features are all still declared."""
    by_name = {model.service: model for model in held}
    return {
        name: _service(
            name, taken, description=f"what version {by_name[name].version} of {by_name[name].name} reads",
            tags=_lineage(by_name[name]),
        )
        for name, taken in model_services(by_name.values()).items()
    }


views = {view.name: _view(view) for view in STORED_VIEWS}
feature_services = {name: _service(name, dict(taken)) for name, taken in services().items()}
objects = [project, symbol, *sources.values(), *views.values(), *feature_services.values()]
# Feast finds objects as module attributes only. `feast apply` is run with the deployment's environment: its models.
globals().update({source.name: source for source in sources.values()} | views | feature_services)
refuse_unread(load_settings())
globals().update(services_of(models(load_settings())))
