// Env: the server's environment, parsed once at boot.

export interface Env {
  /** Where the service listens: HTTP and WebSocket. */
  serviceUrl: URL;
}

const DEFAULT_SERVICE_URL = "http://127.0.0.1:18300";

/** Raises with the name, what was expected and what was found. */
export function readEnv(environ: Record<string, string | undefined>): Env {
  return { serviceUrl: serviceUrl(environ.CANDLEWICK_SERVICE_URL ?? DEFAULT_SERVICE_URL) };
}

function serviceUrl(value: string): URL {
  const url = URL.canParse(value) ? new URL(value) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.pathname !== "/") {
    throw new Error(`CANDLEWICK_SERVICE_URL: expected http://host:port, found ${JSON.stringify(value)}`);
  }
  return url;
}
