"""Registry: runs, versions and the champion in MLflow on SQL, and the gate a model passes before it is promoted.

    verdict = judge(report, "live")           # `report`: of `training.evaluation`, as every evaluation's
    record(uri, run, folder, verdict)         # alias `champion` moves only if verdict.promoted

File stores are refused. Under the default name only a model of live data may become champion; a simulated one registers
as `<name>-simulated`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from feature_repo.settings import Settings

MODEL_NAME = "candlewick-forecast"
EXPERIMENT = "candlewick-forecast"
CHAMPION = "champion"
MAX_CALIBRATION_ERROR = 0.03
BAND_TOLERANCE = 0.05
CERTAIN_HORIZON = "15"
"""Minutes ahead at which better than HAR must be more than chance."""


@dataclass(frozen=True)
class Check:
    """One condition of the gate."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Verdict:
    """The gate's answer and why."""

    name: str
    """Registered name: the default, or `<default>-simulated` when the data are not live."""
    promoted: bool
    checks: tuple[Check, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def registered_name(kind: str, name: str = MODEL_NAME) -> str:
    """Other than `live` (a simulated market, a quick rehearsal) never enters the default registry.

    >>> registered_name("simulated")
    'candlewick-forecast-simulated'
    """
    return name if kind == "live" else f"{name}-{kind}"


def judge(
    report: Mapping[str, Any], kind: str, champion: Mapping[str, Any] | None = None, lacking: Sequence[str] = (),
) -> Verdict:
    """The promotion gate on an evaluation's report.

    The model's QLIKE must be below HAR's at every horizon (upper end of the paired interval < 0 at 15 minutes), with an
    answer to every row and, in the default registry, on enough of them; direction must not lose to the base rate, risk
    must be calibrated, the band must cover, and on the same rows the model must not be worse than the present champion,
    where there is one: `champion` is what `training.scores.differences` says of the two, `lacking` the symbols that it
    has learnt and the model has not.
    """
    against_har = report["baselines"]["har"]["model_minus_it"]
    checks = [_below(f"qlike_{h}m_minus_har", against_har.get(f"qlike_{h}"), certain=h == CERTAIN_HORIZON)
              for h in report["volatility"]]
    checks += [_direction_check(report["direction"]), _risk_check(report["risk"]),
               _band_check(report["intervals"]["band_15"]), _answers_check(report["volatility"])]
    if kind == "live":
        checks.append(_evidence_check(report["volatility"][CERTAIN_HORIZON]))
    if champion is not None:
        checks += [_not_above("qlike_15m_against_champion", champion.get("qlike_15")),
                   Check("knows_the_champions_symbols", not lacking, f"without {', '.join(lacking) or 'none'}")]
    return Verdict(registered_name(kind), all(c.passed for c in checks), tuple(checks))


def unjudged(kind: str) -> Verdict:
    """Of a model without rows that it has not seen: registered, never promoted."""
    return Verdict(registered_name(kind), promoted=False, checks=(
        Check("scored_on_unseen_rows", passed=False, found="no bars after --until; see `candlewick evaluate`"),
    ))


def _answers_check(volatility: Mapping[str, Any]) -> Check:
    """A model may not pass by saying nothing of the hard rows."""
    silent = sum(each.get("unanswered", 0) for each in volatility.values())
    return Check("every_row_answered", silent == 0, f"{silent} without a forecast")


def _evidence_check(volatility: Mapping[str, Any]) -> Check:
    """An interval of few days says "certain" of what is not."""
    enough = "evidence" not in volatility and volatility["n"] > 0
    return Check("enough_rows", enough, f"n_eff {volatility.get('n_eff', 0)}")


def _below(name: str, difference: Mapping[str, Any] | None, certain: bool) -> Check:
    """A paired difference of losses that is below 0; `certain`: so is the upper end of its interval."""
    if difference is None:
        return Check(name, passed=False, found="no volatility is forecast")
    bound = difference["high"] if certain else difference["value"]
    return Check(name, bound is not None and bound < 0, _shown(difference["value"], difference))


def _not_above(name: str, difference: Mapping[str, Any] | None) -> Check:
    """A paired difference of losses that is not above 0: the champion's equal may follow it."""
    if difference is None:
        return Check(name, passed=False, found="no volatility is forecast")
    return Check(name, difference["value"] <= 0, _shown(difference["value"], difference))


def _direction_check(direction: Mapping[str, Any]) -> Check:
    """Where direction is forecast, the Brier skill over the base rate is not certainly below 0."""
    name, skill, ends = "direction_not_worse_than_constant", direction["brier_skill"], direction["interval"]
    if skill is None:
        return Check(name, passed=direction["n"] == 0, found="no direction is forecast" if not direction["n"] else
                     "minutes of one direction alone")
    held = ends["brier_skill"]
    return Check(name, held is not None and held["high"] >= 0, f"Brier skill {_shown(skill, held)}")


def _shown(value: float, ends: Mapping[str, Any] | None) -> str:
    if ends is None or ends["low"] is None:
        return f"{value:+.4f}, less than two days: no interval"
    return f"{value:+.4f} [{ends['low']:+.4f}, {ends['high']:+.4f}]"


def _risk_check(risk: Mapping[str, Any]) -> Check:
    error = risk["ece"]
    if error is None:
        return Check("risk_calibrated", passed=False, found="no risk is forecast")
    return Check("risk_calibrated", error <= MAX_CALIBRATION_ERROR, f"calibration error {error:.4f}")


def _band_check(band: Mapping[str, Any]) -> Check:
    coverage = band["coverage"]
    if coverage is None:
        return Check("band_covers", passed=False, found="no band is forecast")
    return Check("band_covers", abs(coverage - band["level"]) <= BAND_TOLERANCE, f"coverage {coverage:.3f}")


def open_mlflow(uri: str) -> Any:
    """An MLflow client on a SQL store. Raises `ValueError` for a file store: its runs cannot carry a registry."""
    if uri.startswith(("file:", "/", ".")):
        raise ValueError(f"expected a SQL or HTTP tracking URI such as sqlite:///…/mlflow.db, found {uri}")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    from mlflow import MlflowClient

    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _experiment(client: Any, uri: str) -> str:
    """The experiment, its artefacts beside the database."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    place = None
    if uri.startswith("sqlite:///"):
        place = (Path(uri.removeprefix("sqlite:///")).parent / "artifacts").resolve().as_uri()
    return str(client.create_experiment(EXPERIMENT, artifact_location=place))


@dataclass(frozen=True)
class RunRecord:
    """What a run leaves in MLflow."""

    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


def begin(uri: str, version: str) -> str:
    """Open a run and return its id, so that the artefact can carry it."""
    client = open_mlflow(uri)
    return str(client.create_run(_experiment(client, uri), tags={"mlflow.runName": version}).info.run_id)


def record(uri: str, run: RunRecord, folder: Path, verdict: Verdict, run_id: str = "") -> dict[str, str]:
    """Log the run and its artefact, register a version, and move `champion` to it if the gate let it through.

    `run_id`: of a run that was begun; without it a new one is opened.
    """
    client = open_mlflow(uri)
    run_id = run_id or begin(uri, run.tags["version"])
    logged = client.get_run(run_id)
    for name, tag in run.tags.items():
        client.set_tag(run_id, name, tag)
    for name, value in run.params.items():
        client.log_param(run_id, name, value)
    for name, value in run.metrics.items():
        client.log_metric(run_id, name, value)
    client.log_artifacts(run_id, str(folder), "model")
    client.log_dict(run_id, verdict.as_dict(), "gate.json")
    client.set_terminated(run_id)
    if not any(m.name == verdict.name for m in client.search_registered_models()):
        client.create_registered_model(verdict.name)
    version = client.create_model_version(
        verdict.name, f"{logged.info.artifact_uri}/model", run_id, tags={"promoted": str(verdict.promoted).lower()},
    )
    if verdict.promoted:
        client.set_registered_model_alias(verdict.name, CHAMPION, version.version)
    return {"run_id": run_id, "model": verdict.name, "version": str(version.version),
            "alias": CHAMPION if verdict.promoted else ""}


def champion_folder(uri: str, name: str, into: Path) -> Path | None:
    """The champion's artefact folder, fetched below `into`; None where there is no champion."""
    client = open_mlflow(uri)
    from mlflow.exceptions import MlflowException

    try:
        version = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:  # MLflow's word for "no such model or alias"
        return None
    return Path(client.download_artifacts(version.run_id, "model", str(into)))


def resolve(settings: Settings, model: str) -> Path:
    """The folder of a model: itself, a version trained here, as the registry names it, or the newest here of a kind.

    The registry is asked for `name` (its champion), `name@alias`, `name/version` or an alias of the default name, with
    or without MLflow's `models:/` before it; then `har`, say, is the newest HAR trained here. Raises `ValueError` when
    there is none.
    """
    named = model.removeprefix("models:/")
    for folder in (Path(model), settings.run_dir / "models" / named) if named else ():
        if folder.is_dir():
            return folder
    names = _registered_names(settings.mlflow)
    name, alias, version = _named(named, names)
    if name in names and (found := _version(settings.mlflow, name, alias, version)) is not None:
        into = settings.run_dir / "models" / "registered" / found.run_id
        into.mkdir(parents=True, exist_ok=True)
        return Path(open_mlflow(settings.mlflow).download_artifacts(found.run_id, "model", str(into)))
    trained = _trained(settings)
    if named in trained:
        return trained[named]
    raise ValueError(
        f"expected a folder, or a model registered as {model}, found neither; registered: "
        f"{', '.join(sorted(names)) or 'none'}; trained here: {', '.join(sorted(trained)) or 'none'}; `candlewick "
        "train --model KIND` trains one",
    )


def _trained(settings: Settings) -> dict[str, Path]:
    """Kind → the newest version of it that was trained here; a version's name begins with when it was made."""
    found = {}
    for path in sorted((settings.run_dir / "models").glob("*/meta.json")):
        try:
            meta = json.loads(path.read_text())
        except ValueError:
            continue  # a damaged folder has no kind to be asked for by; asked for by its name it is refused
        # Fetched copies lie elsewhere, under the run's name; `champion` and `shadow` are slots, not versions.
        if isinstance(meta, dict) and meta.get("version") == path.parent.name:
            found[str(meta.get("kind", "transformer"))] = path.parent
    return found


def _registered_names(uri: str) -> set[str]:
    """Names in the registry. One that was never written is not made by a question."""
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return set()
    return {str(each.name) for each in open_mlflow(uri).search_registered_models()}


def _version(uri: str, name: str, alias: str, version: str) -> Any | None:
    client = open_mlflow(uri)
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, version) if version else client.get_model_version_by_alias(name, alias)
    except MlflowException:  # MLflow's word for "no such alias or version"
        return None


def _named(model: str, names: Collection[str] = ()) -> tuple[str, str, str]:
    """Name, alias and version of what was asked for; `names` are registered.

    >>> _named("champion"), _named("mine@shadow"), _named("mine/3"), _named("mine", {"mine"})
    (('candlewick-forecast', 'champion', ''), ('mine', 'shadow', ''), ('mine', '', '3'), ('mine', 'champion', ''))
    """
    if "@" in model:
        name, _, alias = model.partition("@")
        return name, alias, ""
    name, _, version = model.partition("/")
    if version:
        return name, "", version
    return (name, CHAMPION, "") if name in names or name == MODEL_NAME else (MODEL_NAME, model, "")
