// Feed: a development-only stand-in for the service, speaking its HTTP and WebSocket with made markets.
//
//   npm run feed -- --port 18300 [--books 10] [--history 900]
//
// POST /dev/pause, /dev/resume: the markets fall silent, the service goes on; with ?symbol= only that one.
// POST /dev/jump?symbol=: its price jumps by 3 %. POST /dev/tier?n=5: safe mode.
// Never part of `make up`: the product shows a simulated market through the local exchange instead.

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { WebSocketServer } from "ws";
import { Market } from "./market.mjs";

const { values: args } = parseArgs({
  options: { port: { type: "string", default: "18300" }, books: { type: "string", default: "4" }, history: { type: "string", default: "900" } },
});
const booksPerSecond = Number(args.books);
const keep = Number(args.history);
const CHANNELS = ["bar", "book", "features", "prediction", "status", "market"];
const PRICES = { BTCUSDT: 97_950, ETHUSDT: 3_412, SOLUSDT: 187.4, XRPUSDT: 2.31, DOGEUSDT: 0.1874 };
let tier = 1;

/** One symbol's market and everything that watches it. */
class Feed {
  constructor(symbol, seed) {
    this.market = new Market(symbol, seed, PRICES[symbol]);
    this.sequences = Object.fromEntries(CHANNELS.map((channel) => [channel, 0]));
    this.sockets = new Set();
    Object.assign(this, { bars: [], books: [], isPaused: false, lastEventMs: Date.now() });
  }

  send(type, data) {
    const message = JSON.stringify({ type, sequence: ++this.sequences[type], data });
    for (const socket of this.sockets) socket.send(message);
  }

  status() {
    const age = Date.now() - this.lastEventMs;
    const families = ["price", "volatility", "volume", "flow", "book", "anomaly", "calendar"];
    const { symbol, source, session } = this.bars.at(-1);
    return {
      ts: Date.now() * 1e6, source, session, symbol, last_event_age_ms: age, feature_age_ms: age + 300, tier, model_version: "dev-feed",
      feature_ages_ms: { ...Object.fromEntries(families.map((name) => [`${name}_features`, age + 300])), volatility_context: 1_860_000 },
    };
  }

  second(closeS) {
    this.bars = [...this.bars, this.market.bar(closeS)].slice(-keep);
    this.market.moveWalls();
    this.summary = this.market.summary(this.bars.at(-1));
    this.features = this.market.features(closeS);
    this.prediction = this.market.prediction(closeS, tier);
  }

  oneBook(timeS) {
    const book = this.market.book(timeS);
    this.books = [...this.books, book].slice(-keep);
    return book;
  }

  tick(now) {
    if (this.isPaused) return;
    this.lastEventMs = now;
    this.second(Math.floor(now / 1000));
    this.send("bar", this.bars.at(-1));
    this.send("features", this.features);
    this.send("prediction", this.prediction);
  }

  snapshot() {
    const { sequences, bars, books, features, prediction } = this;
    return { type: "snapshot", sequences, bars, books, features, prediction, status: this.status(), market: table() };
  }
}

const feeds = new Map(Object.keys(PRICES).map((symbol, i) => [symbol, new Feed(symbol, 7 + i)]));
const all = [...feeds.values()];

function movers(window) {
  const known = all.map(({ summary }) => ({ symbol: summary.symbol, change: summary[`change_${window}`] ?? 0 }));
  const ordered = known.sort((a, b) => b.change - a.change);
  const names = (some) => some.map(({ symbol }) => symbol).slice(0, 5);
  return { window, up: names(ordered.filter(({ change }) => change > 0)), down: names(ordered.filter(({ change }) => change < 0).reverse()) };
}

function table() {
  const summaries = all.map(({ summary }) => summary).sort((a, b) => (a.symbol < b.symbol ? -1 : 1));
  return { ts: Date.now() * 1e6, source: "simulated", summaries, movers: ["10s", "1m", "1h", "24h"].map(movers) };
}

function chosen(url) {
  const symbol = url.searchParams.get("symbol");
  return symbol === null ? all : [feeds.get(symbol)].filter(Boolean);
}

function pause(url, isPaused) {
  for (const feed of chosen(url)) feed.isPaused = isPaused;
  return { isPaused };
}

const routes = {
  "GET /latest": (url) => chosen(url)[0].prediction,
  "GET /market": table,
  "GET /readyz": () => ({ ready: true }),
  "POST /dev/pause": (url) => pause(url, true),
  "POST /dev/resume": (url) => pause(url, false),
  "POST /dev/jump": (url) => ({ jumped: chosen(url).map((feed) => feed.market.jump()).length }),
  "POST /dev/tier": (url) => ({ tier: (tier = Number(url.searchParams.get("n"))) }),
};

const server = createServer((request, response) => {
  const url = new URL(request.url, "http://feed");
  const route = routes[`${request.method} ${url.pathname}`];
  response.writeHead(route ? 200 : 404, { "content-type": "application/json" });
  response.end(JSON.stringify(route ? route(url) : { error: "not found" }));
});

const sockets = new WebSocketServer({ noServer: true });
server.on("upgrade", (request, socket, head) => {
  const url = new URL(request.url, "http://feed");
  const feed = feeds.get(url.searchParams.get("symbol") ?? "BTCUSDT");
  if (url.pathname !== "/live" || !feed) return void socket.end("HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n");
  sockets.handleUpgrade(request, socket, head, (client) => {
    client.send(JSON.stringify(feed.snapshot()));
    feed.sockets.add(client);
    client.on("close", () => feed.sockets.delete(client));
  });
});

const started = Math.floor(Date.now() / 1000);
for (const feed of all) {
  for (let s = started - keep; s <= started; s += 1) {
    feed.second(s);
    feed.oneBook(s - 0.5);
  }
}
setInterval(() => {
  const now = Date.now();
  for (const feed of all) feed.tick(now);
  const market = table();
  for (const feed of all) {
    feed.send("market", market);
    feed.send("status", feed.status());
  }
}, 1000);
setInterval(() => {
  for (const feed of all.filter(({ isPaused }) => !isPaused)) {
    feed.lastEventMs = Date.now();
    feed.send("book", feed.oneBook(Date.now() / 1000));
  }
}, 1000 / booksPerSecond);
server.listen(Number(args.port), "127.0.0.1", () => console.log(`simulated feed on http://127.0.0.1:${args.port}`));
