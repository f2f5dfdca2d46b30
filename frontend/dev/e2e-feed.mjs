// The browser suite against the development feed: no stack needed. `npm run build && npm run e2e:feed [-- args]`.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  return port;
}

async function ready(url) {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const answer = await fetch(url).catch(() => null);
    if (answer?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`expected an answer at ${url} within 20 s, found none`);
}

const [feedPort, pagePort] = [await freePort(), await freePort()];
const feed = `http://127.0.0.1:${feedPort}`;
const page = `http://127.0.0.1:${pagePort}`;
const quiet = { stdio: ["ignore", "ignore", "inherit"] };
const servers = [
  spawn(process.execPath, ["dev/feed.mjs", "--port", String(feedPort)], quiet),
  spawn(process.execPath, ["node_modules/next/dist/bin/next", "start", "-H", "127.0.0.1", "-p", String(pagePort)], {
    ...quiet,
    env: { ...process.env, CANDLEWICK_SERVICE_URL: feed },
  }),
];
try {
  await Promise.all([ready(`${feed}/readyz`), ready(page)]);
  const suite = spawn(process.execPath, ["node_modules/@playwright/test/cli.js", "test", ...process.argv.slice(2)], {
    stdio: "inherit",
    env: {
      ...process.env,
      CANDLEWICK_PAGE_URL: page,
      CANDLEWICK_EXCHANGE_STOP_CMD: `curl -sf -X POST ${feed}/dev/pause`,
      CANDLEWICK_EXCHANGE_START_CMD: `curl -sf -X POST ${feed}/dev/resume`,
      CANDLEWICK_JUMP_CMD: `curl -sf -X POST '${feed}/dev/jump?symbol=ETHUSDT'`,
    },
  });
  const [code] = await once(suite, "exit");
  process.exitCode = code ?? 1;
} finally {
  servers.forEach((server) => server.kill());
}
