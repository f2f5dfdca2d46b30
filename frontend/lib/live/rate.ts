// Rate: messages a second over a short sliding window.

const WINDOW_MS = 3_000;

export class RateMeter {
  private times: number[] = [];

  count(now: number): void {
    this.times.push(now);
  }

  perSecond(now: number): number {
    const first = this.times.findIndex((time) => time > now - WINDOW_MS);
    this.times = first < 0 ? [] : this.times.slice(first);
    return this.times.length / (WINDOW_MS / 1000);
  }
}
