"""Publishing: which feature rows to predict, what to predict from them, and when to say that there are none; pure.

    chosen, skipped = to_predict(rows, now_ns)
    prediction = answer(row, online, chosen_model, now_ns, infer)
    notice = Silence().notice("BTCUSDT", last_row, now_ns)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bentos.answers import risk_threshold
from bentos.champion import Chosen
from bentos.fallback import FRESH_S, SAFE_MODE, Evidence, decide
from bentos.predictor import Outputs, forecast, is_nowcast, safe_mode
from bentos.sequence import Floats, masked_share, sequence_at
from feature_repo.contracts import NANOS, SECOND_NS, FeatureRow, Prediction
from feature_repo.proof import row_hash, sequence_hash
from feature_repo.store import OnlineRow

RECORD_S = 60.0
"""A whole minute's row is predicted up to this age: the record has no holes for a short absence."""
REPEAT_NS = 10 * NANOS
Infer = Callable[[Floats, float | None], Outputs]


def to_predict(rows: Sequence[FeatureRow], now_ns: int) -> tuple[list[FeatureRow], int]:
    """Of the rows just read (in order): each symbol's newest and every whole minute that is young enough.

    Backfilled rows are history and never predicted. The second value is how many live rows were passed over.
    """
    live = [row for row in rows if row.provenance == "live"]
    newest = {row.symbol: row for row in live}
    wanted = [row for row in live if row is newest[row.symbol] or _is_young_minute(row, now_ns)]
    return wanted, len(live) - len(wanted)


def _is_young_minute(row: FeatureRow, now_ns: int) -> bool:
    return not is_nowcast(row.ts_event) and now_ns - row.ts_event <= RECORD_S * NANOS


def answer(
    row: FeatureRow, online: OnlineRow | None, chosen: Chosen, now_ns: int, infer: Infer,
    store_fault: str | None = None,
) -> Prediction:
    """The prediction to publish for `row`, from the sequence that the online store holds for it or for a neighbour.

    It carries the hashes of both, by which anyone can show later what it was made from.

    A whole minute that comes late (after a pause of this process) is still the forecast its features give, made
    from nothing later, so it is recorded; but nobody could have traded on it, and it says so.
    """
    sequence = None if online is None or online.sequence is None else sequence_at(
        online.sequence, online.row.ts_event, row.ts_event, row.values,
    )
    age_s = (now_ns - row.ts_event) / NANOS
    is_late_record = FRESH_S < age_s <= RECORD_S and not is_nowcast(row.ts_event)
    masked = None if sequence is None else masked_share(sequence, chosen.columns)
    decision = decide(Evidence(FRESH_S if is_late_record else age_s, masked, chosen.fault, store_fault))
    if decision.tier == SAFE_MODE or sequence is None or online is None or chosen.artefact is None:
        facts = chosen.artefact.facts if chosen.artefact else None
        return proven(safe_mode(row.symbol, row, facts, decision, now_ns), row, sequence, chosen.columns)
    outputs = infer(sequence, risk_threshold(online, now_ns))
    made = proven(forecast(row, outputs, chosen.artefact.facts, decision, now_ns), row, sequence, chosen.columns)
    return late(made, age_s) if is_late_record else made


def proven(made: Prediction, row: FeatureRow, sequence: Floats | None, columns: Sequence[int]) -> Prediction:
    """The same prediction with the hashes of what it was made from; of the sequence that is what its model reads."""
    of_sequence = None if sequence is None else sequence_hash(sequence[:, columns])
    return made.model_copy(update={"row_hash": row_hash(row), "sequence_hash": of_sequence})


def late(made: Prediction, age_s: float) -> Prediction:
    """The same forecast, marked as too late to trade on."""
    reason = f"no trade: published {age_s:.1f} s after its minute"
    told = {"should_trade": False, "should_trade_15m": False, "reasons": [*made.reasons, reason]}
    return made.model_copy(update=told)


@dataclass
class Silence:
    """Says that features have stopped: once when a row turns stale, then every ten seconds."""

    _said_ns: dict[str, int] = field(default_factory=dict)

    def notice(self, symbol: str, last: FeatureRow | None, chosen: Chosen, now_ns: int) -> Prediction | None:
        """A tier-5 prediction as of the current whole second, or None when there is nothing to say now.

        Nothing is said of a symbol that never had a row: its source is unknown.
        """
        if last is None:
            return None
        age_s = (now_ns - last.ts_event) / NANOS
        if age_s <= FRESH_S:
            self._said_ns.pop(symbol, None)
            return None
        said_ns = self._said_ns.get(symbol)
        if said_ns is not None and now_ns - said_ns < REPEAT_NS:
            return None
        self._said_ns[symbol] = now_ns
        facts = chosen.artefact.facts if chosen.artefact else None
        second = now_ns // SECOND_NS * SECOND_NS
        made = safe_mode(symbol, last, facts, decide(Evidence(age_s, 0.0, chosen.fault)), now_ns)
        return made.model_copy(update={"ts_event": second, "created": second, "nowcast": is_nowcast(second)})
