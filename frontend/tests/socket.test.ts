import { beforeEach, describe, expect, test, vi } from "vitest";
import { fullJitter } from "@/lib/live/backoff";
import { connect, type SocketWorld } from "@/lib/live/socket";

class Line {
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: (() => void) | null = null;
  isClosed = false;
  close() {
    this.isClosed = true;
  }
}

let lines: Line[];
let told: string[];

function open() {
  const world: SocketWorld = {
    open: () => {
      lines.push(new Line());
      return lines.at(-1) as unknown as WebSocket;
    },
    now: () => 0,
    random: () => 0.5,
  };
  const frames: string[] = [];
  const live = connect("ws://x/live", { onFrame: (frame) => frames.push(frame), onState: (state, retryAt) => told.push(retryAt === null ? state : `${state} ${retryAt}`) }, world);
  return { live, frames };
}

beforeEach(() => {
  vi.useFakeTimers();
  lines = [];
  told = [];
});

describe("connection", () => {
  test("it is open with the first message, not with the upgrade", () => {
    open();
    expect(told).toEqual(["connecting"]);
    lines[0]!.onmessage?.({ data: "hello" });
    expect(told).toEqual(["connecting", "open"]);
  });

  test("a lost line is tried again after a jittered wait that grows until a message comes", () => {
    open();
    lines[0]!.onclose?.();
    vi.advanceTimersByTime(250);
    lines[1]!.onclose?.();
    vi.advanceTimersByTime(500);
    lines[2]!.onmessage?.({ data: "hello" });
    lines[2]!.onclose?.();
    expect(told).toEqual(["connecting", "waiting 250", "retrying", "waiting 500", "retrying", "open", "waiting 250"]);
  });

  test("ten silent seconds end a line that never said goodbye", () => {
    open();
    lines[0]!.onmessage?.({ data: "hello" });
    vi.advanceTimersByTime(9_999);
    expect(lines[0]!.isClosed).toBe(false);
    vi.advanceTimersByTime(1);
    expect(lines[0]!.isClosed).toBe(true);
    expect(told.at(-1)).toBe("waiting 250");
  });

  test("a line that was given up is not listened to any more", () => {
    const { frames } = open();
    lines[0]!.onclose?.();
    lines[0]!.onmessage?.({ data: "late" });
    expect(frames).toEqual([]);
  });

  test("the network's return skips the wait", () => {
    const { live } = open();
    lines[0]!.onclose?.();
    live.retryNow();
    expect(lines).toHaveLength(2);
  });

  test("closing it is final", () => {
    const { live } = open();
    live.close();
    lines[0]!.onclose?.();
    vi.advanceTimersByTime(60_000);
    expect(lines).toHaveLength(1);
  });
});

test("full jitter: between nothing and a doubling, capped bound", () => {
  expect([0, 1, 2, 3, 4, 9].map((attempt) => fullJitter(attempt, () => 1))).toEqual([500, 1_000, 2_000, 4_000, 8_000, 8_000]);
  expect(fullJitter(5, () => 0)).toBe(0);
});
