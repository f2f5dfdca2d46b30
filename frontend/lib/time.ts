// Time: the contract's nanoseconds in the units a page needs. All UTC.

const NANOS_PER_MS = 1e6;
const NANOS_PER_SECOND = 1e9;

/**
 * Whole Unix seconds. JSON numbers hold nanoseconds of this century only to 256 ns, which no page can show,
 * and whole seconds exactly.
 */
export function toSeconds(nanos: number): number {
  return Math.floor(nanos / NANOS_PER_SECOND);
}

export function toMillis(nanos: number): number {
  return nanos / NANOS_PER_MS;
}

/** `12:34:56` of the UTC day. */
export function clockTime(nanos: number): string {
  return new Date(toMillis(nanos)).toISOString().slice(11, 19);
}

/** `2024-08-09 12:34:56`. */
export function dateTime(nanos: number): string {
  return new Date(toMillis(nanos)).toISOString().slice(0, 19).replace("T", " ");
}
