// Made: messages for tests, complete by the contract; a test states only the fields that it is about.

import type { Bar, FeatureRow, LiveSnapshot, LiveStatus, Market, MarketSummary, OrderBook, Prediction } from "@/lib/live/messages";

export const SECOND = 1_000_000_000;
/** 2024-08-09 00:00:00 UTC, a whole minute. */
export const T0 = 1_723_161_600;

const stamp = (second: number) =>
  ({ symbol: "BTCUSDT", ts_event: second * SECOND, ts_init: second * SECOND + 3e8, source: "recording", session: "s1-loop0" }) as const;

const NO_BOOK_SUMS = {
  bid_quantity_5: null, ask_quantity_5: null, bid_quantity_10: null, ask_quantity_10: null, bid_quantity_20: null, ask_quantity_20: null,
  bid_depth_10bps: null, ask_depth_10bps: null, bid_depth_25bps: null, ask_depth_25bps: null, order_flow_imbalance: null,
};

/** The bar of the second that closes `closeAt` seconds after `T0`. */
export function bar(closeAt: number, fields: Partial<Bar> = {}): Bar {
  const second = T0 + closeAt;
  return {
    ...stamp(second), ...NO_BOOK_SUMS, book_valid: true, bid_price: 99.9, bid_quantity: 1, ask_price: 100.1, ask_quantity: 1,
    interval_s: 1, open_time: (second - 1) * SECOND, close_time: second * SECOND, open: 100, high: 101, low: 99, close: 100,
    volume: 2, quote_volume: 200, vwap: 100, trades: 3, taker_buy_volume: 1, first_trade_id: 1, last_trade_id: 3,
    created: second * SECOND + 3e8, provenance: "live", ...fields,
  };
}

export function book(at: number, fields: Partial<OrderBook> = {}): OrderBook {
  return {
    ...stamp(T0), ts_event: (T0 + at) * SECOND, last_update_id: Math.round(at * 10), mid_price: 100,
    bids: { prices: [99.99], quantities: [1.5] }, asks: { prices: [100.01], quantities: [2.5] },
    bid_depth_5bps: 1, ask_depth_5bps: 1, bid_depth_10bps: 1, ask_depth_10bps: 1, bid_depth_25bps: 1, ask_depth_25bps: 1,
    bid_bins: Array<number>(30).fill(1), ask_bins: Array<number>(30).fill(1), ...fields,
  };
}

export function features(at: number, values: FeatureRow["values"] = {}, reasons: FeatureRow["reasons"] = {}): FeatureRow {
  return { ...stamp(T0 + at), created: (T0 + at) * SECOND + 3e8, provenance: "live", feature_set: "abc123def456", price: 100, values, reasons };
}

export function prediction(at: number, fields: Partial<Prediction> = {}): Prediction {
  return {
    ...stamp(T0 + at), created: (T0 + at) * SECOND + 3e8, model: "transformer", model_version: "v3", feature_set: "abc123def456",
    horizon_s: 60, price: 60_000, p_up: 0.52, p_flat: 0.05, signal: 0.04, confidence: 0.52, volatility_5m: 5e-4, volatility_15m: 4e-4,
    volatility_60m: 3e-4, volatility_15m_low: 2e-4, volatility_15m_high: 8e-4, spike_prob: 0.1, risk_score: 0.31, anomaly_score: 0.2,
    expected_edge_bps: -0.4, cost_bps: 10.6, should_trade: false, nowcast: true, tier: 1,
    reasons: ["no trade: between whole minutes"], row_hash: null, sequence_hash: null, expected_edge_15m_bps: -1.1,
    should_trade_15m: false, ...fields,
  };
}

export function status(at: number, fields: Partial<LiveStatus> = {}): LiveStatus {
  return {
    ts: (T0 + at) * SECOND, source: "recording", session: "s1-loop0", symbol: "BTCUSDT", last_event_age_ms: 120, feature_age_ms: 800,
    tier: 1, model_version: "v3", feature_ages_ms: { price_features: 800, book_features: null }, ...fields,
  };
}

export function summary(symbol: string, at: number, fields: Partial<MarketSummary> = {}): MarketSummary {
  return {
    ...stamp(T0 + at), symbol, created: (T0 + at) * SECOND + 3e8, provenance: "live", price: 100, average_1m: 99.5, volatility_1m: 4e-4,
    volatility_5m: 5e-4, change_10s: 0, change_1m: 0.001, change_1h: -0.002, change_24h: null, move_10s: 0, moved: false, alert_since: null,
    volume_1m: 12, quote_volume_1m: 1_234_000, reasons: { change_24h: "warmup" }, ...fields,
  };
}

export function market(...summaries: MarketSummary[]): Market {
  return { ts: T0 * SECOND, source: "recording", summaries, movers: [{ window: "1h", up: [], down: summaries.map(({ symbol }) => symbol) }] };
}

export function snapshot(fields: Partial<LiveSnapshot> = {}): LiveSnapshot {
  return {
    type: "snapshot", sequences: { bar: 10, book: 20 }, bars: [bar(1), bar(2)], books: [book(1), book(2)],
    features: null, prediction: null, status: status(2), market: market(), ...fields,
  };
}
