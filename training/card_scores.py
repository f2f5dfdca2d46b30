"""Card scores: an evaluation's report as Markdown for a model's card: tables, a calibration plot, money.

    volatility(report)         # | horizon | forecaster | QLIKE | …

Figures stand with their day-block 95 % intervals where they have one; a dash stands for what is not forecast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from training.reliability_text import LEGEND, plot

Found = Mapping[str, Any]
NOTHING = "–"


def figure(block: Found, name: str, digits: int = 4, *, sign: str = "", percent: bool = False) -> str:
    """A score with its interval, from a block that holds it under its name and its ends under `interval`.

    >>> figure({"auc": 0.5, "interval": {"auc": {"low": 0.4, "high": 0.6}}}, "auc", 2)
    '0.50 [0.40, 0.60]'
    >>> figure({"auc": None, "interval": {}}, "auc"), figure({"right": 0.5, "interval": {}}, "right", percent=True)
    ('–', '50.0 %')
    """
    value, ends = block.get(name), (block.get("interval") or {}).get(name)
    if value is None:
        return NOTHING
    scale, form = (100.0, f"{sign}.1f") if percent else (1.0, f"{sign}.{digits}f")
    unit = " %" if percent else ""
    if ends is None or ends.get("low") is None:
        return f"{scale * value:{form}}{unit}"
    return f"{scale * value:{form}}{unit} [{scale * ends['low']:{form}}, {scale * ends['high']:{form}}]"


def paired(other: Found, name: str, digits: int = 4) -> str:
    """The model less a baseline, from the baseline's `model_minus_it`."""
    held = other.get("model_minus_it", {}).get(name)
    return NOTHING if held is None else figure({"it": held["value"], "interval": {"it": held}}, "it", digits, sign="+")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _evidence(found: Found) -> str:
    return f"n_eff {found['n_eff']:,}{', too few' if 'evidence' in found else ''}"


def volatility(report: Found) -> str:
    """QLIKE, R² of logs and bias by horizon, the baselines under the model."""
    rows = []
    for h, own in report["volatility"].items():
        if own["qlike"] is None:
            continue
        rows.append([f"{h} min, {_evidence(own)}", "**model**", figure(own, "qlike"), figure(own, "r2_log", 3),
                     figure(own, "log_bias", 3, sign="+"), ""])
        rows += [["", name, figure(held, "qlike"), figure(held, "r2_log", 3), figure(held, "log_bias", 3, sign="+"),
                  paired(other, f"qlike_{h}")]
                 for name, other in report["baselines"].items()
                 if (held := other["volatility"][h])["qlike"] is not None]
    columns = ("horizon", "forecaster", "QLIKE", "R² of logs", "log bias", "model − it, QLIKE")
    return _table(columns, rows) if rows else "It forecasts no volatility of its own."


def named_chances(report: Found) -> Iterator[tuple[str, str, Found]]:
    """Title, name among differences, and scores of every chance that the model speaks of."""
    spikes = ((f"spike, {h} min", f"spike_{h}", found) for h, found in report["spike"].items())
    every = (("up, if it moves", "up", report["direction"]), ("flat minute", "flat", report["flat"]), *spikes,
             ("risk", "risk", report["risk"]))
    return (each for each in every if each[2]["brier"] is not None)


def _of(report: Found, name: str) -> Found:
    """A chance's scores in a baseline's report, by its name among differences."""
    kind, _, h = name.partition("_")
    found: Found = report["spike"][h] if h else report[{"up": "direction"}.get(kind, kind)]
    return found


def chances(report: Found) -> str:
    """Ranking, gain over the base rate, calibration and log loss of each chance, the baselines under the model."""
    rows = []
    for title, name, own in named_chances(report):
        rows.append([f"{title}, base {own['base_rate']:.3f}", "**model**", *_chance(own), ""])
        rows += [["", label, *_chance(held), paired(other, f"log_loss_{name}", 5)]
                 for label, other in report["baselines"].items() if (held := _of(other, name))["brier"] is not None]
    columns = ("chance", "forecaster", "AUC", "Brier skill", "ECE", "reliability slope", "log loss",
               "model − it, log loss")
    return _table(columns, rows)


def _chance(found: Found) -> list[str]:
    return [figure(found, "auc", 3), figure(found, "brier_skill", 3), figure(found, "ece"),
            figure(found, "reliability_slope", 2), figure(found, "log_loss")]


def intervals(report: Found) -> str:
    """Coverage, in all and from calm to wild, and interval scores beside the last hour's volatility."""
    rows = []
    for name, found in report["intervals"].items():
        if found["coverage"] is None:
            continue
        shares = found["coverage_by_volatility"]
        fifths = " ".join(NOTHING if share is None else f"{100 * share:.0f}" for share in shares)
        title = "volatility, 15 min" if name == "band_15" else f"return, {name} min"
        rows.append([title, figure(found, "coverage", percent=True), fifths, figure(found, "interval_score_bps", 2),
                     figure(found, "interval_score_rv60_bps", 2)])
    columns = ("80 % interval of", "covers", "by fifths, calm to wild, %", "interval score, bps",
               "last hour’s RV × constant")
    return _table(columns, rows) if rows else "It gives no intervals."


def reliability(report: Found) -> str:
    """A calibration plot of each chance, as text."""
    plots = [f"{title}: ECE {figure(own, 'ece')}, slope {figure(own, 'reliability_slope', 2)}\n\n"
             f"```text\n{plot(own['reliability'])}\n```" for title, _, own in named_chances(report)]
    told = f"Each line is a tenth of the decisions, fewer where many chances are equal. {LEGEND}."
    return "\n\n".join([told, *plots])


def money(report: Found) -> str:
    """What trading on it brought, at the deployment's costs and for nothing."""
    rows = []
    for h, found in report["pnl"].items():
        rows += [[f"{h} min", name.replace("_", " "), *_trades(found["strategies"][name])]
                 for name in ("model", "model_every_minute", "momentum", "reversal") if name in found["strategies"]]
        if alone := found["strategies"].get("model", {}).get("one_at_a_time"):
            rows.append([f"{h} min", "model, one position at a time", *_trades(alone)])
    costs = report["pnl"]["1"]["costs"]["per_side_bps"]
    columns = ("horizon", "strategy", "trades", "share of minutes", "gross bps a trade", f"net at {costs:g} bps a side",
               "break-even cost, bps a side")
    largest = {h: found["largest_edge_bps"] for h, found in report["pnl"].items()}
    edges = " and ".join(f"{bps:.2f} bps over {h} min" for h, bps in largest.items() if bps is not None)
    told = f"\n\nThe largest expected edge was {edges}; a trade costs {2 * costs:.2f}." if edges else ""
    return f"{_table(columns, rows)}{told}"


def _trades(strategy: Found) -> list[str]:
    at = strategy["at_settings"]
    shown = {name: at[name] for name in ("gross_bps", "net_bps", "break_even_cost_bps")}
    block = {"interval": shown, **{name: held and held["value"] for name, held in shown.items()}}
    return [f"{at['trades']:,}", f"{100 * at['share_traded']:.2f} %",
            *(figure(block, name, 3, sign="+") for name in shown)]
