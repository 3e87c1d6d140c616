// The events that the page holds: a window of the log, newest first, without a repeat.
import type { EventRecord } from "../../gen/protos/eventlog/v1/eventlog_pb";

/** So many events are held at most: who wants older ones chooses an earlier moment. */
export const MOST = 5_000;

/** Joins events that came, in whatever order and however often, with those held; the newest first. */
export function joined(held: readonly EventRecord[], came: readonly EventRecord[]): readonly EventRecord[] {
  const newest = held[0]?.position ?? 0n;
  const fresh = came.filter((event) => event.position > newest);
  if (fresh.length === came.length) return [...descending(fresh), ...held].slice(0, MOST);
  const all = new Map([...held, ...came].map((event) => [event.position, event]));
  return descending([...all.values()]).slice(0, MOST);
}

/** Adds older events at the end, as far as there is room: a window on the log has no hole. */
export function extended(held: readonly EventRecord[], older: readonly EventRecord[]): readonly EventRecord[] {
  const last = held.at(-1)?.position;
  const fresh = descending(older).filter((event) => last === undefined || event.position < last);
  return [...held, ...fresh].slice(0, MOST);
}

/** Events whose type, stream, subject, sentence and actor hold every word between them, in whatever case. */
export function found(
  events: readonly EventRecord[],
  search: string,
  subject: (event: EventRecord) => string = () => "",
): readonly EventRecord[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return events;
  return events.filter((event) => {
    const text = `${event.type} ${event.streamId} ${subject(event)} ${event.sentence} ${event.actor}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

function descending(events: readonly EventRecord[]): readonly EventRecord[] {
  return [...events].sort((a, b) => (a.position < b.position ? 1 : -1));
}
