import type { ComponentChildren } from "preact";
import { integer, moment, shortId } from "../../format";
import type { EventRecord } from "../../gen/protos/eventlog/v1/eventlog_pb";
import { liveJobs, runners } from "../../live/stores";
import { Facts } from "../../ui/layout";
import css from "./events.module.css";
import { payloadText } from "./payload";

interface RowProps {
  event: EventRecord;
  open: boolean;
  onToggle: () => void;
  /** All events of the list happened to one thing, which need not be named. */
  alone?: boolean;
}

/** One event: when, what, in words; opened its payload and envelope. */
export function EventRow({ event, open, onToggle, alone }: RowProps) {
  return (
    <div class={css.row}>
      <button type="button" class={css.line} aria-expanded={open} onClick={onToggle}>
        <span class="quiet number">{integer(event.position)}</span>
        <span class="quiet number">{moment(Number(event.recordedAtUs / 1000n))}</span>
        <span class={css.type}>{event.type}</span>
        <span>
          {!alone && subject(event) && <span class="quiet">{subject(event)} · </span>}
          {event.sentence}
        </span>
        <span class="quiet" aria-hidden="true">
          {open ? "▴" : "▾"}
        </span>
      </button>
      {open && <Detail event={event} />}
    </div>
  );
}

function Detail({ event }: { event: EventRecord }) {
  return (
    <div class={css.detail}>
      <Facts
        of={[
          ["Stream", stream(event)],
          ["Version", integer(event.streamVersion)],
          ["Actor", event.actor],
          ["Event id", <code>{event.eventId}</code>],
          ["Correlation", event.correlationId && <code>{event.correlationId}</code>],
          ["Caused by", event.causationId && <code>{event.causationId}</code>],
          ["Schema", event.schemaVersion],
        ]}
      />
      <pre tabIndex={0} aria-label={`Payload of ${event.type}`}>
        {payloadText(event)}
      </pre>
    </div>
  );
}

/** Whom it happened to, as people call it. */
export function subject(event: EventRecord): string {
  if (event.streamKind === "runner") return runners.value?.get(event.streamId)?.name ?? shortId(event.streamId);
  if (event.streamKind === "job") return liveJobs.value?.get(event.streamId)?.name ?? shortId(event.streamId);
  return "";
}

function stream(event: EventRecord): ComponentChildren {
  const href = { job: `/trainings/${event.streamId}`, runner: `/runners/${event.streamId}` }[event.streamKind];
  const text = (
    <>
      {event.streamKind} <code>{event.streamId}</code>
    </>
  );
  return (
    <>
      {href === undefined ? text : <a href={href}>{text}</a>}
      <br />
      <a href={`/events?stream=${event.streamId}`}>Only events of this stream</a>
    </>
  );
}
