// Generate: the TypeScript copies of the contract, made from feature_repo's committed schemas.
//
// `npm run generate` writes them, `npm run generate:check` fails when one differs (CI runs it).
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import openapiTS, { astToString } from "openapi-typescript";

const root = new URL("../", import.meta.url);
const schemas = new URL("../feature_repo/schemas/", root);
const note = (source) => `// Generated from feature_repo/schemas/${source} by \`npm run generate\`. Do not edit.\n\n`;
const read = (name) => JSON.parse(readFileSync(new URL(name, schemas), "utf8"));

async function messages() {
  return note("openapi.json") + astToString(await openapiTS(read("openapi.json")));
}

function features() {
  const rows = read("features.json").features.map((feature) => `  ${JSON.stringify(feature)},`);
  return `${note("features.json")}export const FEATURES = [\n${rows.join("\n")}\n] as const;\n`;
}

const copies = { "lib/messages.gen.ts": await messages(), "lib/features.gen.ts": features() };
const isStale = ([path, text]) => {
  const target = new URL(path, root);
  return !existsSync(target) || readFileSync(target, "utf8") !== text;
};

if (process.argv.includes("--check")) {
  const stale = Object.entries(copies).filter(isStale);
  for (const [path] of stale) console.error(`${path} differs from the contract: run \`npm run generate\``);
  process.exit(stale.length > 0 ? 1 : 0);
}
for (const [path, text] of Object.entries(copies)) writeFileSync(new URL(path, root), text);
