// @vitest-environment jsdom
import { act, render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { SpreadStrip } from "@/features/chart/SpreadStrip";
import { FeaturePanel } from "@/features/featureTable/FeaturePanel";
import { ConnectionPill } from "@/features/feed/ConnectionPill";
import { DataPanel } from "@/features/feed/DataPanel";
import { FeedBanner } from "@/features/feed/FeedBanner";
import { LiveRoot } from "@/features/feed/LiveRoot";
import { SourceBadge } from "@/features/feed/SourceBadge";
import { ForecastPanel } from "@/features/forecast/ForecastPanel";
import { BigPrice } from "@/features/header/BigPrice";
import { ThemeButton } from "@/features/header/ThemeButton";
import { INITIAL, useLive, type LiveView } from "@/lib/live/session";
import { bar, book, features, prediction, status } from "./made";

const live = (view: Partial<LiveView>) => act(() => useLive.setState(view));

beforeEach(() => useLive.setState(INITIAL, true));

describe("the forecast", () => {
  test("leads with volatility and risk, then says how little direction is known", () => {
    render(<ForecastPanel symbol="BTCUSDT" />);
    live({ prediction: prediction(60), status: status(60) });
    const headings = screen.getAllByRole("heading", { level: 3 }).map((heading) => heading.textContent);
    expect(headings).toEqual(["Expected move in 15 min", "Risk", "Direction in 1 min", "Would it trade?"]);
    expect(screen.getByText(/Close to a coin toss/)).toBeVisible();
    expect(screen.getByRole("img", { name: "Up 49.4 %, Flat 5.0 %, Down 45.6 %" })).toBeVisible();
    expect(screen.getByRole("meter", { name: "Risk score" })).toHaveAttribute("aria-valuetext", "0.31, Normal");
  });

  test("shows each horizon with its move in percent and in price", () => {
    render(<ForecastPanel symbol="BTCUSDT" />);
    live({ prediction: prediction(60) });
    const row = screen.getByRole("row", { name: /^15 min/ });
    expect(within(row).getAllByRole("cell").map((cell) => cell.textContent)).toEqual(["0.155 %", "92.95", "4.00"]);
  });

  test("names what stands against a trade, and the hurdle", () => {
    render(<ForecastPanel symbol="BTCUSDT" />);
    live({ prediction: prediction(60, { reasons: ["no trade: between whole minutes", "risk unknown"], risk_score: null }) });
    expect(screen.getAllByRole("listitem").map((item) => item.textContent)).toEqual(["between whole minutes", "risk unknown"]);
    expect(screen.getByText("21.20 bps")).toBeVisible();
    expect(screen.getByText("−0.40 bps")).toBeVisible();
    expect(screen.getByText("Unknown")).toBeVisible();
  });

  test("decides for one minute and for 15 apart", () => {
    render(<ForecastPanel symbol="BTCUSDT" />);
    live({ prediction: prediction(60, { should_trade_15m: true, expected_edge_15m_bps: 31.4, reasons: ["no trade: expected edge 0.40 bps"] }) });
    expect(screen.getByTestId("should-trade")).toHaveTextContent("No");
    expect(screen.getByTestId("should-trade-15m")).toHaveTextContent("Yes");
    expect(screen.getByText("+31.40 bps")).toBeVisible();
  });

  test("an edge that the model does not give is a dash and its reason", () => {
    render(<ForecastPanel symbol="BTCUSDT" />);
    live({ prediction: prediction(60, { expected_edge_15m_bps: null, reasons: ["no trade at 15 min: the model gives no expected edge"] }) });
    expect(screen.getByTestId("should-trade-15m")).toHaveTextContent("No");
    expect(screen.getByText("— bps")).toBeVisible();
    expect(screen.getByRole("listitem")).toHaveTextContent("at 15 min: the model gives no expected edge");
  });

  test("in safe mode shows no number, and why", () => {
    render(<ForecastPanel symbol="BTCUSDT" />);
    live({ prediction: prediction(60, { tier: 5, p_up: null, confidence: null, reasons: ["features are 42.0 s old"] }) });
    expect(screen.getByRole("heading", { name: "Safe mode" })).toBeVisible();
    expect(screen.getByText("features are 42.0 s old")).toBeVisible();
    expect(screen.queryByText("Would it trade?")).not.toBeInTheDocument();
  });

  test("asks the service for the reason when the stream fell silent before safe mode", async () => {
    const answer = prediction(60, { tier: 5, reasons: ["no feature row in the online store"] });
    vi.stubGlobal("fetch", () => Promise.resolve(Response.json(answer)));
    render(<ForecastPanel symbol="BTCUSDT" />);
    live({ prediction: prediction(60, { tier: 1 }), status: status(120, { tier: 5 }) });
    expect(await screen.findByText("no feature row in the online store")).toBeVisible();
    vi.unstubAllGlobals();
  });

  test("before the first forecast says so", () => {
    render(<ForecastPanel symbol="BTCUSDT" />);
    expect(screen.getByText(/No forecast yet/)).toBeVisible();
  });
});

describe("the features", () => {
  test("are one table a family, an unknown value a dash with its reason", () => {
    render(<FeaturePanel />);
    live({ features: features(60, { return_1m: 0.00031, realized_vol_1d: null }, { realized_vol_1d: "warmup" }), status: status(60) });
    const table = (name: string) => screen.getByRole("table", { name: new RegExp(`^${name}`) });
    expect(within(table("price")).getByRole("row", { name: /return_1m/ })).toHaveTextContent("return_1m+3.10bps");
    expect(within(table("volatility")).getByRole("row", { name: /realized_vol_1d/ })).toHaveTextContent("warmup —");
    expect(screen.getAllByRole("table")).toHaveLength(7);
  });

  test("tell their formulas when asked", async () => {
    render(<FeaturePanel />);
    expect(screen.queryByText("(ask - bid) / mid")).not.toBeInTheDocument();
    await userEvent.click(screen.getByRole("button", { name: "Formulas" }));
    expect(screen.getByText("(ask - bid) / mid")).toBeVisible();
  });
});

describe("the state of the feed", () => {
  test("live says how fast", () => {
    render(<ConnectionPill />);
    live({ feed: "live", messagesPerSecond: 11.6 });
    expect(screen.getByTestId("connection")).toHaveTextContent("Live12 msg/s");
  });

  test("stale is announced politely, once, and marks everything", () => {
    const { container } = render(
      <LiveRoot>
        <FeedBanner symbol="BTCUSDT" />
      </LiveRoot>,
    );
    expect(screen.getByRole("status")).toBeEmptyDOMElement();
    live({ feed: "stale", bar: bar(5) });
    expect(screen.getByRole("status")).toHaveTextContent("Stale: the market has fallen silent");
    expect(screen.getByText(/00:00:05 UTC/)).toBeVisible();
    expect(container.firstElementChild).toHaveAttribute("data-feed", "stale");
    live({ feed: "live" });
    expect(screen.getByRole("status")).toBeEmptyDOMElement();
  });

  test("a lost connection says when it is tried again", () => {
    render(<ConnectionPill />);
    live({ feed: "disconnected", now: 1_000, retryAt: 3_000 });
    expect(screen.getByTestId("connection")).toHaveTextContent("Disconnectedretry 2.0 s");
  });
});

describe("the data", () => {
  test.each([["live", "LIVE"], ["recording", "RECORDING"], ["simulated", "SIMULATED"]] as const)("of source %s are badged %s", (source, word) => {
    render(<SourceBadge />);
    live({ status: status(1, { source }) });
    expect(screen.getByTestId("source")).toHaveTextContent(word);
  });

  test("tell session and the age of each view in words too", () => {
    render(<DataPanel />);
    live({ status: status(60), bar: bar(60), statusAt: 0, now: 0 });
    expect(screen.getByText("s1-loop0")).toBeVisible();
    expect(screen.getByRole("row", { name: /price_features/ })).toHaveTextContent("price_features800 ms● fresh");
    expect(screen.getByRole("row", { name: /book_features/ })).toHaveTextContent("—○ unknown");
  });
});

test("the price is told with its direction and not by colour alone", () => {
  render(<BigPrice />);
  live({ bar: bar(5, { close: 61_837.63 }), move: -1, features: features(5, { return_1m: -0.0005 }) });
  expect(screen.getByText("Price, down:")).toBeInTheDocument();
  expect(screen.getByTestId("price")).toHaveTextContent("61,837.63");
  expect(screen.getByText(/−0.050 %/)).toBeVisible();
});

test("the best prices stand with their spread", () => {
  render(<SpreadStrip />);
  live({ book: book(1) });
  expect(screen.getByText("99.9900")).toBeVisible();
  expect(screen.getByText("100.01")).toBeVisible();
  expect(screen.getByText(/2\.000/)).toBeVisible();
});

test("the theme is chosen by button and remembered in a cookie", async () => {
  render(<ThemeButton />);
  await userEvent.click(screen.getByRole("button", { name: "Theme: system. Change to dark" }));
  expect(document.documentElement).toHaveAttribute("data-theme", "dark");
  expect(document.cookie).toContain("candlewick-theme=dark");
});
