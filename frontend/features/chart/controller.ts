// Chart controller: lightweight-charts with our series, outside React. `setData` on a reset, `update` per bar.

import {
  CandlestickSeries, ColorType, createChart, CrosshairMode, HistogramSeries, LineStyle,
  type IChartApi, type ISeriesApi, type MouseEventParams, type UTCTimestamp,
} from "lightweight-charts";
import { priceDigits } from "@/lib/format";
import type { Interval } from "@/lib/view";
import type { BookColumn, Candle, MarketSeries, SeriesListener } from "@/lib/live/series";
import { bucketed, evenly, holesBetween, isCandle, newestBucket, type Point } from "./aggregate";
import { HeatBuffer } from "./heatBuffer";
import { HeatPrimitive } from "./heatPrimitive";
import { PALETTES, type ChartPalette } from "./palette";

const RIGHT_SPACE = 4;
/** A column is a second wide: drawing it more often than this shows nothing new and costs a repaint of everything. */
const HEAT_EVERY_MS = 100;
/** Pixels a bar; with these the time marks fall on quarters of a minute and on minutes. */
const BAR_SPACING: Record<Interval, number> = { 1: 5.2, 5: 6.4, 60: 16 };
const FONT = '"JetBrains Mono Variable", ui-monospace, monospace';

export interface ChartView {
  interval: Interval;
  isHeatShown: boolean;
  scheme: "dark" | "light";
}

export class ChartController implements SeriesListener {
  private readonly chart: IChartApi;
  private readonly candles: ISeriesApi<"Candlestick">;
  private readonly volumes: ISeriesApi<"Histogram">;
  private readonly buffer = new HeatBuffer();
  private readonly heat: HeatPrimitive;
  private readonly stopListening: () => void;
  private first: number | null = null;
  private last: Point | null = null;
  private hovered: number | null = null;
  private digits = 2;
  private heatDrawnAt = 0;

  /** `onLegend` hears of the candle under the crosshair, or the newest. */
  constructor(
    container: HTMLElement,
    private readonly series: MarketSeries,
    private view: ChartView,
    private readonly onLegend: (candle: Candle | null) => void,
  ) {
    this.chart = createChart(container, { autoSize: true, ...chartOptions(this.palette) });
    this.candles = this.chart.addSeries(CandlestickSeries, candleOptions(this.palette));
    this.volumes = this.chart.addSeries(HistogramSeries, { priceFormat: { type: "volume" }, priceLineVisible: false, lastValueVisible: false }, 1);
    this.chart.panes()[0]?.setStretchFactor(5);
    this.chart.panes()[1]?.setStretchFactor(1);
    this.heat = new HeatPrimitive({
      image: () => (this.view.isHeatShown ? this.buffer.image() : null),
      axis: () => (this.first === null ? null : { first: this.first, interval: this.view.interval }),
    });
    this.candles.attachPrimitive(this.heat);
    this.chart.subscribeCrosshairMove(this.onCrosshair);
    this.stopListening = series.listen(this);
    this.showNewest();
  }

  destroy(): void {
    this.stopListening();
    this.chart.remove();
  }

  show(view: ChartView): void {
    const before = this.view;
    this.view = view;
    if (view.scheme !== before.scheme) this.applyPalette();
    if (view.interval !== before.interval) {
      this.onReset();
      this.showNewest();
    }
    this.heat.redraw();
  }

  /** Positive moves towards the newest. */
  scroll(bars: number): void {
    const scale = this.chart.timeScale();
    scale.scrollToPosition(scale.scrollPosition() + bars, false);
  }

  /** Above 1 shows fewer, wider candles. */
  zoom(factor: number): void {
    const scale = this.chart.timeScale();
    const { barSpacing } = scale.options();
    scale.applyOptions({ barSpacing: Math.min(40, Math.max(1, barSpacing * factor)) });
  }

  showNewest(): void {
    this.chart.timeScale().applyOptions({ barSpacing: BAR_SPACING[this.view.interval] });
    this.chart.timeScale().scrollToRealTime();
  }

  onReset(): void {
    const points = evenly(bucketed(this.series.candles, this.view.interval), this.view.interval);
    this.first = points[0]?.time ?? null;
    this.last = points.at(-1) ?? null;
    this.setDigits();
    this.candles.setData(points.map(candlePoint));
    this.volumes.setData(points.map((point) => volumePoint(point, this.palette)));
    this.paintHeat();
    this.tellLegend();
  }

  onCandle(): void {
    const candle = newestBucket(this.series.candles, this.view.interval);
    if (!candle) return;
    if (!this.last) return this.onReset();
    const holes = holesBetween(this.last.time, candle.time, this.view.interval);
    for (const point of [...holes, candle]) {
      this.candles.update(candlePoint(point));
      this.volumes.update(volumePoint(point, this.palette));
    }
    this.last = candle;
    this.tellLegend();
  }

  onBook(book: BookColumn): void {
    if (!this.buffer.push(book)) return this.paintHeat();
    const now = performance.now();
    if (now - this.heatDrawnAt < HEAT_EVERY_MS) return;
    this.heatDrawnAt = now;
    this.heat.redraw();
  }

  private readonly onCrosshair = ({ time }: MouseEventParams) => {
    this.hovered = typeof time === "number" ? time : null;
    this.tellLegend();
  };

  private tellLegend(): void {
    const { hovered } = this;
    if (hovered === null) return this.onLegend(this.last && isCandle(this.last) ? this.last : null);
    const end = hovered + this.view.interval;
    const inside = this.series.candles.filter((candle) => candle.time >= hovered && candle.time < end);
    this.onLegend(bucketed(inside, this.view.interval)[0] ?? null);
  }

  private get palette(): ChartPalette {
    return PALETTES[this.view.scheme];
  }

  private paintHeat(): void {
    this.buffer.paint(this.series.books, this.palette.heat);
    this.heat.redraw();
  }

  private applyPalette(): void {
    this.chart.applyOptions(chartOptions(this.palette));
    this.candles.applyOptions(candleOptions(this.palette));
    this.onReset();
  }

  private setDigits(): void {
    const digits = priceDigits(this.series.candles.at(-1)?.close ?? 100);
    if (digits === this.digits) return;
    this.digits = digits;
    this.candles.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
  }
}

function candlePoint(point: Point) {
  return isCandle(point)
    ? { time: point.time as UTCTimestamp, open: point.open, high: point.high, low: point.low, close: point.close }
    : { time: point.time as UTCTimestamp };
}

function volumePoint(point: Point, palette: ChartPalette) {
  if (!isCandle(point)) return { time: point.time as UTCTimestamp };
  const color = point.close >= point.open ? palette.volumeUp : palette.volumeDown;
  return { time: point.time as UTCTimestamp, value: point.volume, color };
}

function chartOptions(palette: ChartPalette) {
  return {
    layout: {
      background: { type: ColorType.Solid, color: palette.background },
      textColor: palette.text,
      fontFamily: FONT,
      fontSize: 11,
      panes: { separatorColor: palette.line, separatorHoverColor: palette.line, enableResize: false },
    },
    grid: { vertLines: { color: palette.grid }, horzLines: { color: palette.grid } },
    rightPriceScale: { borderColor: palette.line, scaleMargins: { top: 0.12, bottom: 0.08 }, minimumWidth: 84 },
    timeScale: { borderColor: palette.line, timeVisible: true, secondsVisible: true, rightOffset: RIGHT_SPACE },
    crosshair: {
      mode: CrosshairMode.Normal,
      vertLine: { color: palette.crosshair, labelBackgroundColor: palette.label, style: LineStyle.Dotted },
      horzLine: { color: palette.crosshair, labelBackgroundColor: palette.label, style: LineStyle.Dotted },
    },
  };
}

function candleOptions(palette: ChartPalette) {
  return {
    upColor: palette.up,
    downColor: palette.down,
    wickUpColor: palette.up,
    wickDownColor: palette.down,
    borderVisible: false,
    priceLineColor: palette.text,
  };
}
