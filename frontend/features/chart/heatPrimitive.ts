// Heat primitive: draws the heat buffer under the candles with one drawImage a frame.

import type { IChartApi, IPrimitivePaneRenderer, IPrimitivePaneView, ISeriesApi, ISeriesPrimitive, Logical, SeriesAttachedParameter, Time } from "lightweight-charts";
import type { HeatImage } from "./heatBuffer";
import { ROWS } from "./heatGrid";

type RenderTarget = Parameters<IPrimitivePaneRenderer["draw"]>[0];

/** Where the chart's points lie in time: point i is at `first + i · interval`, Unix seconds. */
export interface TimeAxis {
  first: number;
  interval: number;
}

export interface HeatSource {
  image: () => HeatImage | null;
  axis: () => TimeAxis | null;
}

export class HeatPrimitive implements ISeriesPrimitive<Time> {
  private chart: IChartApi | null = null;
  private series: ISeriesApi<"Candlestick"> | null = null;
  private requestUpdate: (() => void) | null = null;
  private readonly view: IPrimitivePaneView;

  constructor(private readonly source: HeatSource) {
    const renderer: IPrimitivePaneRenderer = { draw: (target) => this.draw(target) };
    this.view = { zOrder: () => "bottom", renderer: () => renderer };
  }

  attached({ chart, series, requestUpdate }: SeriesAttachedParameter<Time>): void {
    this.chart = chart as IChartApi;
    this.series = series as ISeriesApi<"Candlestick">;
    this.requestUpdate = requestUpdate;
  }

  detached(): void {
    this.chart = this.series = this.requestUpdate = null;
  }

  paneViews(): readonly IPrimitivePaneView[] {
    return [this.view];
  }

  redraw(): void {
    this.requestUpdate?.();
  }

  private draw(target: RenderTarget): void {
    const image = this.source.image();
    const box = image && this.box(image);
    if (!image || !box) return;
    target.useBitmapCoordinateSpace(({ context, horizontalPixelRatio: x, verticalPixelRatio: y }) => {
      context.imageSmoothingEnabled = false;
      context.drawImage(
        image.canvas, 0, 0, image.columns, ROWS,
        Math.round(box.left * x), Math.round(box.top * y), Math.round(box.width * x), Math.round(box.height * y),
      );
    });
  }

  /** The image's place in the pane, CSS pixels. Linear in time, because every interval has a point, and in price. */
  private box(image: HeatImage): { left: number; top: number; width: number; height: number } | null {
    const left = this.xOf(image.start);
    const right = this.xOf(image.start + image.columns);
    const top = this.series?.priceToCoordinate(image.grid.top);
    const bottom = this.series?.priceToCoordinate(image.grid.top - ROWS * image.grid.rowHeight);
    if (left === null || right === null || top == null || bottom == null) return null;
    return { left, top, width: right - left, height: bottom - top };
  }

  /** x of the beginning of a second; a candle is drawn half a bar to both sides of its point. */
  private xOf(second: number): number | null {
    const axis = this.source.axis();
    const scale = this.chart?.timeScale();
    // Only whole indexes have coordinates, but they lie evenly.
    const zero = scale?.logicalToCoordinate(0 as Logical);
    const one = scale?.logicalToCoordinate(1 as Logical);
    if (!axis || zero == null || one == null) return null;
    return zero + ((second - axis.first) / axis.interval - 0.5) * (one - zero);
  }
}
