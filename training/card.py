"""Card: what a person should know before using a model, written from its meta.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Scores = dict[str, Any]

DATA_STATEMENT = """\
Trained on one-minute klines (open, high, low, close, volume), the exchange's own figures collected by third parties
from public repositories, most of which state no licence; no market data are included in this repository or in the
artefact. The weights and this card are under Apache-2.0."""

SIMULATED_STATEMENT = "Trained on a simulated market. Its scores say that the programme runs, and nothing else."

CARD = """\
# {name} {version}

{kind}, with masking, scaling and calibration inside one
ONNX graph. It forecasts {symbol}'s realised volatility over 5, 15 and 60 minutes, the
chance of a volatility spike, the risk of an unusually violent quarter of an hour and, with next to no skill, the
direction of the next minute.

## Data
{statement}

{windows}

## Scores on the test part
95 % day-block bootstrap intervals in brackets; lower QLIKE and log loss are better; a difference below 0 favours the
model. Choices are made on the calibration part, but each run of the command scores this same test part: whoever chose
had seen the scores of the runs before (`docs/experiments.md` says how many), so read them as slightly too kind.

{volatility}

{chances}

## What it cannot do
{limits}

## How it was made
`{command}` at commit `{commit}`; data set `{identity}`, feature set `{feature_set}`, seeds {seeds}, {seconds:.0f} s on
a CPU. Every figure is in `meta.json`; what was tried is in `docs/experiments.md`.
"""

KINDS = {
    "transformer": "A Transformer of {parameters:,} parameters over 64 minutes that corrects a HAR volatility forecast",
    "lstm": "An LSTM of {parameters:,} parameters over 64 minutes that corrects a HAR volatility forecast",
    "stack": "A stack of HAR, gradient boosting and a Transformer ({parameters:,} parameters), weighted per head",
    "gradient_boosting": "Gradient boosting of what HAR misses", "random_forest": "Random forests of what HAR misses",
    "logistic": "Logistic regressions, and a ridge regression of what HAR misses",
    "isolation_forest": "An isolation forest for risk and spikes, HAR for volatility", "har": "HAR (Corsi 2009)",
    "ewma": "An exponentially weighted average of squared returns", "reversal": "Reversal of the last minute, and HAR",
}

LIMITS = """\
- Direction: {right:.1f} % right [{right_low:.1f}, {right_high:.1f}]. Following it every minute earns {gross_1:+.3f} bps
  a trade before and {net_1:+.2f} bps after costs ({gross_15:+.3f} and {net_15:+.2f} over 15 minutes); costs are
  {cost:.2f} bps a side. The largest expected edge was {edge:.2f} bps; `should_trade` was true in {share:.2f} % of
  minutes. Do not trade on it.
- Band of the 15-minute volatility: {coverage:.1f} % inside; 80 % is wanted.
- Risk above {threshold}: {alert}; base rate {base:.3f}. It is null until seven days of history are known.
- Quote volume of the training klines is volume × typical price; live it is exact, so `vwap_distance_15m` differs a
  little.
- Beside gradient boosting on the newest row, its QLIKE differs by {boosting}.
- Direction from older rows keeps λ = {factors} of its distance from ½ at ages {ages} s.
- The minutes of the recording used for demonstration (2024-08-08/09) lie in the calibration part."""


def read_meta(folder: Path) -> Scores:
    """The meta.json of an artefact folder."""
    return dict(json.loads((folder / "meta.json").read_text()))


def unscored(meta: Scores) -> str:
    """The card while there are no scores on unseen rows; such a folder is never installed."""
    return (f"# {meta['name']} {meta['version']}\n\nNot scored yet: `candlewick evaluate` does it on unseen rows."
            f"\n\nMade by `{meta['command']}` of set `{meta['dataset']['identity']}`.\n")


def model_card(meta: Scores) -> str:
    """The card as Markdown."""
    report = meta["metrics"]
    return CARD.format(
        name=meta["name"], version=meta["version"], symbol=meta["symbol"],
        kind=KINDS[meta.get("kind", "transformer")].format(parameters=meta["fit"]["parameters"]),
        statement=DATA_STATEMENT if meta["source"] == "live" else SIMULATED_STATEMENT,
        windows=_windows(meta["dataset"]), volatility=_volatility(report["volatility"]),
        chances=_chances(report["chances"]), limits=_limits(report, meta["tier_lambda"]), command=meta["command"],
        commit=meta["commit"], identity=meta["dataset"]["identity"], feature_set=meta["feature_set"],
        seeds=meta["fit"]["seeds"], seconds=meta["seconds"],
    )


def _windows(dataset: Scores) -> str:
    counts = dataset["counts"]
    rows = [f"| {name} | {a[:16]} | {b[:16]} | {counts[name]:,} |" for name, (a, b) in dataset["windows"].items()]
    left = f"{counts['left_out']:,} minutes are left out: embargo, labels across a gap or a cut, unknown sequences."
    return "\n".join(["| part | first row (UTC) | last row | rows |", "|---|---|---|---|", *rows, "", left])


def _volatility(report: Scores) -> str:
    rows = ["| horizon | forecaster | QLIKE | R² of logs | model − it |", "|---|---|---|---|---|"]
    for horizon, found in report.items():
        label = f"{horizon}, n_eff {found['n_eff']:,}{', too few' if 'evidence' in found else ''}"
        rows.append(f"| {label} | **model** | {_interval(found['qlike'])} | {found['r2_log']:.3f} | |")
        for name, other in found["baselines"].items():
            difference = _interval(other["model_minus_baseline"], "+")
            rows.append(f"| | {name} | {_interval(other['qlike'])} | {other['r2_log']:.3f} | {difference} |")
    return "\n".join(rows)


def _chances(report: Scores) -> str:
    head = "| chance | forecaster | AUC | log loss | calibration error | model − it, log loss |"
    rows = [head, "|---|---|---|---|---|---|"]
    for name, found in report.items():
        loss, error = found["log_loss"]["value"], found["calibration_error"]
        rows.append(f"| {name}, base {found['base_rate']:.3f} | **model** | {_interval(found['auc'])} "
                    f"| {loss:.4f} | {error:.4f} | |")
        for label, other in found["baselines"].items():
            difference = _interval(other["model_minus_baseline_log_loss"], "+", 5)
            rows.append(f"| | {label} | {other['auc']:.4f} | {other['log_loss']:.4f} "
                        f"| {other['calibration_error']:.4f} | {difference} |")
    return "\n".join(rows)


def _limits(report: Scores, tier_lambda: Scores) -> str:
    trading, alert, right = report["trading"], report["risk_alert"], report["chances"]["up"]["accuracy"]
    one, quarter = trading["always_trade_1m"], trading["always_trade_15m"]
    fired = alert["precision"] is not None
    return LIMITS.format(
        right=100 * right["value"], right_low=100 * right["low"], right_high=100 * right["high"],
        gross_1=one["gross_bps"]["value"], net_1=one["net_bps"], gross_15=quarter["gross_bps"]["value"],
        net_15=quarter["net_bps"], cost=trading["cost_per_side_bps"], edge=trading["largest_expected_edge_bps"],
        share=100 * trading["share_should_trade"], coverage=100 * report["band_15m"]["coverage"]["value"],
        threshold=alert["threshold"], base=alert["base_rate"],
        alert=f"precision {alert['precision']:.2f}, recall {alert['recall']:.2f}" if fired else "never fired",
        boosting=", ".join(
            f"{_interval(found['baselines']['gradient_boosting']['model_minus_baseline'], '+')} at {horizon}"
            for horizon, found in report["volatility"].items()
        ),
        factors=[round(x, 2) for x in tier_lambda["lambda"]], ages=tier_lambda["age_s"],
    )


def _interval(found: Scores, sign: str = "", digits: int = 4) -> str:
    form = f"{sign}.{digits}f"
    return f"{found['value']:{form}} [{found['low']:{form}}, {found['high']:{form}}]"
