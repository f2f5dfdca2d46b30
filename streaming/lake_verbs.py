"""Lake verbs: `candlewick lake status|compact|retain` on the lake that the settings name."""

from __future__ import annotations

import time
from typing import Any

from feature_repo.logs import configure
from feature_repo.settings import Settings
from streaming.lake import LakeWriter
from streaming.lake_owner import owner
from streaming.lake_upkeep import Upkeep, keep_days, table


def status(settings: Settings) -> dict[str, Any]:
    """What lies in the lake, by zone."""
    upkeep = _upkeep(settings)
    survey = upkeep.survey()
    return {
        "lake": settings.lake, "retention": list(settings.lake_retention), "free_bytes": upkeep.free_bytes(),
        "zones": survey.as_dict(), "due_hours": len(survey.due(time.time_ns())),
        "expired_hours": len(survey.expired(upkeep.keep, time.time_ns())), "stale_files": len(survey.stale),
    }


def text(found: dict[str, Any]) -> str:
    """`status` for people."""
    free = "" if found["free_bytes"] is None else f", {found['free_bytes'] / 1e9:.1f} GB free"
    due = f"{found['due_hours']} hours to merge, {found['expired_hours']} past their time, {found['stale_files']} torn"
    return f"{found['lake']}{free}\n{table(found['zones'])}\n{due}"


def compact(settings: Settings) -> dict[str, Any]:
    """Merge all that is due. Raises `StoreUnavailable` while a stream owns the lake."""
    with owner(settings):
        return {"lake": settings.lake, "merged": _upkeep(settings).all_due()}


def retain(settings: Settings, *, dry_run: bool = False) -> dict[str, Any]:
    """Remove all that is past its time. Raises `StoreUnavailable` while a stream owns the lake."""
    if dry_run:
        return {"lake": settings.lake, "dry_run": True, "expired": _upkeep(settings).all_expired(dry_run=True)}
    with owner(settings):
        return {"lake": settings.lake, "dry_run": False, "expired": _upkeep(settings).all_expired()}


def _upkeep(settings: Settings) -> Upkeep:
    configure("lake", settings.log_level)
    writer = LakeWriter.open(settings.lake, settings.s3_endpoint)
    return Upkeep(writer, keep_days(settings.lake_retention), time.time_ns)
