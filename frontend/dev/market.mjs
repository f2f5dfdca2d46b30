// Market: a made market for developing the page. Every message says `source: "simulated"`.
//
// A pure state machine: `step(second)` answers the messages of one second, from one seeded generator.

import { readFileSync } from "node:fs";

const FEATURES = JSON.parse(
  readFileSync(new URL("../../feature_repo/schemas/features.json", import.meta.url), "utf8"),
);
const NANOS = 1e9;
const DEV_MODEL = { model: "transformer-v1", model_version: "dev-feed", feature_set: FEATURES.feature_set };

/** mulberry32: small, seeded, good enough for a picture. */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export class Market {
  constructor(symbol = "BTCUSDT", seed = 7, start = 97_950) {
    this.origin = { symbol, source: "simulated", session: "dev-feed-loop0" };
    this.closes = [];
    this.start = start;
    this.tick = start >= 1_000 ? 0.01 : start >= 1 ? 1e-4 : 1e-6;
    this.jumpedAt = null;
    this.random = generator(seed);
    this.price = start;
    this.volatility = 1;
    this.walls = [];
    this.updateId = 1_000;
    this.tradeId = 5_000;
    this.risk = 0.3;
    this.direction = 0.5;
  }

  normal() {
    return Math.sqrt(-2 * Math.log(1 - this.random())) * Math.cos(2 * Math.PI * this.random());
  }

  round(price) {
    return Math.round(price / this.tick) * this.tick;
  }

  bar(closeS) {
    this.volatility = Math.min(4, Math.max(0.4, this.volatility * Math.exp(0.06 * this.normal())));
    const open = this.price;
    const step = 2.2 * (this.start / 97_950);
    const path = Array.from({ length: 6 }, () => (this.price += this.normal() * step * this.volatility));
    this.price = this.round(this.price);
    const all = [open, ...path.map((p) => this.round(p)), this.price];
    const volume = Math.exp(this.normal() * 0.8) * 0.8 * this.volatility;
    const trades = 1 + Math.floor(this.random() * 40);
    const bid = this.round(this.price - this.tick);
    this.tradeId += trades;
    return {
      ...this.stamp(closeS), book_valid: true, bid_price: bid, bid_quantity: 2, ask_price: this.round(bid + this.tick), ask_quantity: 3,
      ...Object.fromEntries(BOOK_SUMS.map((name) => [name, 5 + this.random() * 20])), order_flow_imbalance: this.normal(),
      interval_s: 1, open_time: (closeS - 1) * NANOS, close_time: closeS * NANOS, open, high: Math.max(...all), low: Math.min(...all),
      close: this.price, volume, quote_volume: volume * this.price, vwap: (open + this.price) / 2, trades,
      taker_buy_volume: volume * this.random(), first_trade_id: this.tradeId - trades, last_trade_id: this.tradeId - 1,
      created: closeS * NANOS + 3e8, provenance: "live",
    };
  }

  stamp(second) {
    return { ...this.origin, ts_event: second * NANOS, ts_init: second * NANOS + 3e8 };
  }

  moveWalls() {
    if (this.walls.length < 14 || this.random() < 0.12) {
      const away = (this.random() - 0.5) * 50;
      this.walls.push({ price: this.price * (1 + away * 1e-4), size: 12 + this.random() * 45, left: 20 + this.random() * 300 });
    }
    this.walls = this.walls.filter((wall) => --wall.left > 0);
  }

  bins(mid, side) {
    return Array.from({ length: 30 }, (_, i) => {
      const far = mid * (1 + side * (i + 1) * 1e-4);
      const near = mid * (1 + side * i * 1e-4);
      const wall = this.walls.filter((w) => w.price >= Math.min(near, far) && w.price < Math.max(near, far));
      return (2 + i * 0.15) * (0.5 + this.random()) + wall.reduce((sum, w) => sum + w.size, 0);
    });
  }

  levels(best, side) {
    const prices = Array.from({ length: 20 }, (_, i) => this.round(best + side * i * 4e-6 * this.start));
    return { prices, quantities: prices.map(() => this.random() * 2 + 0.001) };
  }

  book(timeS) {
    const mid = this.price + this.normal() * 3e-6 * this.start;
    const bid = this.round(mid - this.tick / 2);
    return {
      ...this.stamp(timeS), last_update_id: (this.updateId += 7), mid_price: bid + this.tick / 2,
      bids: this.levels(bid, -1), asks: this.levels(this.round(bid + this.tick), 1),
      ...Object.fromEntries(DEPTHS.map((name) => [name, 20 + this.random() * 60])),
      bid_bins: this.bins(mid, -1), ask_bins: this.bins(mid, 1),
    };
  }

  features(closeS) {
    const values = Object.fromEntries(FEATURES.features.map((f) => [f.name, this.value(f)]));
    const reasons = { cumulative_volume_delta_1d: "warmup", realized_vol_1d: "gap" };
    for (const name of Object.keys(reasons)) values[name] = null;
    return { ...this.stamp(closeS), created: closeS * NANOS + 3e8, provenance: "live", feature_set: FEATURES.feature_set, price: this.price, values, reasons };
  }

  /** The price jumps by 3 % at once. */
  jump() {
    this.price *= 1.03;
  }

  summary(bar) {
    this.closes = [...this.closes, bar.close].slice(-61);
    const before = (seconds) => this.closes.at(-1 - seconds);
    const change = (close) => (close === undefined ? null : bar.close / close - 1);
    const minute = this.closes.slice(-60);
    const moves = this.closes.slice(-11, -1).map((close) => bar.close / close - 1);
    const furthest = moves.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);
    const moved = Math.abs(furthest) > 0.02;
    if (moved) this.jumpedAt ??= bar.close_time - 10 * NANOS;
    if (this.jumpedAt !== null && bar.close_time - this.jumpedAt > 80 * NANOS) this.jumpedAt = null;
    const volatility = 4e-4 * this.volatility;
    return {
      ...this.origin, ts_event: bar.ts_event, ts_init: bar.ts_init, created: bar.created, provenance: "live", price: bar.close,
      average_1m: minute.reduce((sum, close) => sum + close, 0) / minute.length, volatility_1m: volatility, volatility_5m: volatility * 0.9,
      change_10s: change(before(10)), change_1m: change(before(60)), change_1h: change(this.start), change_24h: null,
      move_10s: furthest, moved, alert_since: this.jumpedAt, volume_1m: bar.volume * 60, quote_volume_1m: bar.quote_volume * 60,
      reasons: { change_24h: "warmup" },
    };
  }

  value({ unit }) {
    if (unit === "log return") return this.normal() * 6e-4;
    if (unit === "per sqrt minute") return 4e-4 * this.volatility * (0.8 + 0.4 * this.random());
    if (unit === "bps") return 0.01 + this.random() * 0.1;
    if (unit.includes("[-1, 1]") || unit.endsWith("sine")) return this.random() * 2 - 1;
    if (unit.includes("[0, 1]")) return this.random() ** 3;
    return unit === "base" ? this.random() * 60 : this.normal();
  }

  prediction(closeS, tier) {
    this.risk = clamp(this.risk + 0.02 * this.normal() + 0.002 * (0.35 - this.risk), 0.02, 0.97);
    this.direction = clamp(this.direction + 0.01 * this.normal() + 0.1 * (0.5 - this.direction), 0.4, 0.6);
    const nowcast = closeS % 60 !== 0;
    const base = { ...this.stamp(closeS), created: closeS * NANOS + 3e8, ...DEV_MODEL, horizon_s: 60, price: this.price, nowcast, tier, row_hash: null, sequence_hash: null, expected_edge_15m_bps: null, should_trade_15m: false };
    if (tier === 5) return { ...base, ...NO_FORECAST, should_trade: false, reasons: ["no feature row for 16 min", "venue stream silent"] };
    const vol = 4.1e-4 * this.volatility;
    const edge = 40 * (this.direction - 0.5);
    const isNotAbove = (bps) => `expected edge ${Math.abs(bps).toFixed(2)} bps is not above 2 x cost 10.60 bps`;
    return {
      ...base, p_up: this.direction, p_flat: 0.045, signal: 2 * this.direction - 1, confidence: Math.max(this.direction, 1 - this.direction),
      volatility_5m: vol * 1.05, volatility_15m: vol, volatility_60m: vol * 0.93, volatility_15m_low: vol * 0.62, volatility_15m_high: vol * 1.7,
      spike_prob: 0.08 * this.volatility, risk_score: this.risk, anomaly_score: this.risk ** 3, expected_edge_bps: edge, cost_bps: 10.6,
      should_trade: false, expected_edge_15m_bps: 2 * edge,
      reasons: [...(nowcast ? ["no trade: between whole minutes"] : []), `no trade: ${isNotAbove(edge)}`, `no trade at 15 min: ${isNotAbove(2 * edge)}`],
    };
  }
}

const BOOK_SUMS = ["bid_quantity_5", "ask_quantity_5", "bid_quantity_10", "ask_quantity_10", "bid_quantity_20", "ask_quantity_20", "bid_depth_10bps", "ask_depth_10bps", "bid_depth_25bps", "ask_depth_25bps"];
const DEPTHS = ["bid_depth_5bps", "ask_depth_5bps", "bid_depth_10bps", "ask_depth_10bps", "bid_depth_25bps", "ask_depth_25bps"];
const NO_FORECAST = Object.fromEntries(
  ["p_up", "p_flat", "signal", "confidence", "volatility_5m", "volatility_15m", "volatility_60m", "volatility_15m_low", "volatility_15m_high", "spike_prob", "risk_score", "anomaly_score", "expected_edge_bps", "cost_bps"].map((name) => [name, null]),
);

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
