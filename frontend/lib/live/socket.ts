// Socket: one WebSocket that comes back by itself.

import { fullJitter } from "./backoff";
import type { Socket } from "./freshness";

/** The service sends its status every second, so a longer silence means a connection that died without a word. */
const SILENCE_MS = 10_000;

export interface SocketListener {
  onFrame: (frame: string) => void;
  onState: (state: Socket, retryAt: number | null) => void;
}

export interface SocketWorld {
  open: (url: string) => WebSocket;
  now: () => number;
  random: () => number;
}

export interface LiveSocket {
  /** Skip the rest of a wait. */
  retryNow: () => void;
  close: () => void;
}

const BROWSER: SocketWorld = {
  open: (url) => new WebSocket(url),
  now: () => performance.now(),
  random: () => Math.random(),
};

export function connect(url: string, listener: SocketListener, world: SocketWorld = BROWSER): LiveSocket {
  let attempt = 0;
  let socket: WebSocket | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const watchSilence = () => {
    clearTimeout(timer);
    timer = setTimeout(() => lose(socket), SILENCE_MS);
  };

  const lose = (lost: WebSocket | null) => {
    if (lost === null || lost !== socket) return;
    socket = null;
    lost.close();
    clearTimeout(timer);
    const delay = fullJitter(attempt++, world.random);
    listener.onState("waiting", world.now() + delay);
    timer = setTimeout(start, delay);
  };

  const start = () => {
    listener.onState(attempt === 0 ? "connecting" : "retrying", null);
    const opened = world.open(url);
    let isProven = false;
    socket = opened;
    watchSilence();
    opened.onmessage = (event: MessageEvent<unknown>) => {
      if (opened !== socket || typeof event.data !== "string") return;
      // Only a message proves the whole way: an upgrade alone would reset the backoff while the service still starts.
      if (!isProven) {
        isProven = true;
        attempt = 0;
        listener.onState("open", null);
      }
      watchSilence();
      listener.onFrame(event.data);
    };
    opened.onclose = () => lose(opened);
  };

  start();
  return {
    retryNow: () => {
      if (socket !== null) return;
      clearTimeout(timer);
      start();
    },
    close: () => {
      clearTimeout(timer);
      const last = socket;
      socket = null;
      last?.close();
    },
  };
}
