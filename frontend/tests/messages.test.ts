import { expect, test } from "vitest";
import { parseMessage } from "@/lib/live/messages";
import { bar, snapshot } from "./made";

test("a message of the contract is read", () => {
  expect(parseMessage(JSON.stringify({ type: "bar", sequence: 7, data: bar(1) }))).toMatchObject({ type: "bar", sequence: 7 });
  expect(parseMessage(JSON.stringify(snapshot()))).toMatchObject({ type: "snapshot" });
});

test.each([
  ["not JSON", "{"],
  ["not an object", "[1]"],
  ["null", "null"],
  ["an unknown type", JSON.stringify({ type: "alert", sequence: 1, data: bar(1) })],
  ["no sequence", JSON.stringify({ type: "bar", data: bar(1) })],
  ["a broken sequence", JSON.stringify({ type: "bar", sequence: 1.5, data: bar(1) })],
  ["no data", JSON.stringify({ type: "bar", sequence: 1 })],
  ["a snapshot without bars", JSON.stringify({ ...snapshot(), bars: undefined })],
])("%s is refused, not thrown", (_, frame) => {
  expect(parseMessage(frame)).toBeNull();
});
