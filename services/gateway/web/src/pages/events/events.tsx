import { useEffect, useMemo, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { mayReadLog } from "../../api/session";
import { count, integer } from "../../format";
import { Button } from "../../ui/button";
import { CheckField, TextField } from "../../ui/fields";
import { Card, Head } from "../../ui/layout";
import { Empty, Failed, Loading } from "../../ui/note";
import { Rows } from "../../ui/rows";
import { useTyped } from "../../ui/typed";
import css from "./events.module.css";
import { found } from "./feed";
import { EVENT_TYPES } from "./payload";
import { EventRow, subject } from "./row";
import { type Feed, type Filter, useFeed } from "./use-feed";

/** The event log: what happened, as it happens, and back to the first day. */
export default function Events() {
  if (!mayReadLog.value)
    return (
      <Empty title="The event log is not yours to read">Analysts and admins read it; ask an admin for a token.</Empty>
    );
  return <Log />;
}

function Log() {
  const { query, route } = useLocation();
  const around = /^[1-9]\d{0,17}$/.test(query.position ?? "") ? BigInt(query.position ?? 0) : 0n;
  const stream = query.stream ?? "";
  const [types, setTypes] = useState<readonly string[]>([]);
  const [search, setSearch] = useState("");
  const [until, setUntil] = useState("");
  const [paused, setPaused] = useState(false);
  const [opened, setOpened] = useState<ReadonlySet<bigint>>(new Set());
  useEffect(() => {
    // An address that names a position shows it opened.
    if (around > 0n) setOpened(new Set([around]));
  }, [around]);
  const filter = useMemo<Filter>(() => ({ types: [...types], streamId: stream.trim() }), [types, stream]);
  const untilMs = new Date(until).getTime() || 0;
  const place = { untilMs: around > 0n ? 0 : untilMs, around };
  const feed = useFeed(filter, place, paused);
  const go = (change: { stream?: string; position?: string }) => {
    const wanted = Object.entries({ ...query, ...change }).filter(([, value]) => value !== "");
    route(`/events${wanted.length > 0 ? `?${new URLSearchParams(wanted)}` : ""}`, true);
  };
  const [typedStream, setTypedStream] = useTyped(stream, (text) => go({ stream: text }));
  const shown = found(feed.events ?? [], search, subject);
  const toggle = (position: bigint) => {
    const next = new Set(opened);
    if (!next.delete(position)) next.add(position);
    setOpened(next);
  };
  return (
    <>
      <Head
        title="Event log"
        actions={
          around > 0n ? (
            <Button onClick={() => go({ position: "" })}>Back to the newest</Button>
          ) : (
            <Button onClick={() => setPaused(!paused)} disabled={untilMs > 0}>
              {paused ? `Resume${feed.waiting > 0 ? ` (${integer(feed.waiting)} new)` : ""}` : "Pause"}
            </Button>
          )
        }
      >
        {around > 0n
          ? `The past: around event #${integer(around)}`
          : untilMs > 0
            ? "The past: up to the moment that you chose"
            : paused
              ? "Paused"
              : "Live: each event as it is appended, the newest first"}
      </Head>
      <Card flush>
        <div class={css.filters}>
          <TextField
            label="Find in what is shown"
            type="search"
            value={search}
            onInput={setSearch}
            placeholder="words of the sentence, the type or the actor"
          />
          <TextField
            label="Stream id"
            value={typedStream}
            onInput={setTypedStream}
            placeholder="of a runner, a job, the workspace"
          />
          <TextField label="Up to" type="datetime-local" value={until} onInput={setUntil} disabled={around > 0n} />
          <Button
            kind="ghost"
            disabled={search === "" && typedStream === "" && until === "" && types.length === 0 && around === 0n}
            onClick={() => {
              setSearch("");
              setTypedStream("");
              go({ stream: "", position: "" });
              setUntil("");
              setTypes([]);
            }}
          >
            Clear
          </Button>
          <Types chosen={types} onChange={setTypes} />
        </div>
        {feed.problem && (
          <div class={css.pad}>
            <Failed retry={feed.reload}>{feed.problem}</Failed>
          </div>
        )}
        {feed.events === undefined ? (
          !feed.problem && <Loading lines={8} what="Loading the events" />
        ) : shown.length === 0 ? (
          <Empty title="No event fits">
            {feed.complete
              ? "Nothing in the log is like that."
              : "Not among those that are loaded; look at older ones, or narrow the time or the types."}
          </Empty>
        ) : (
          <Rows
            label="Events"
            items={shown}
            keyOf={(event) => String(event.position)}
            height={36}
            window="calc(100dvh - 300px)"
            onEnd={search === "" ? feed.older : undefined}
            reveal={around > 0n ? String(around) : undefined}
          >
            {(event) => (
              <EventRow event={event} open={opened.has(event.position)} onToggle={() => toggle(event.position)} />
            )}
          </Rows>
        )}
        {feed.events !== undefined && <Foot feed={feed} searching={search !== ""} />}
      </Card>
    </>
  );
}

/** What lies beyond the rows that are loaded. */
function Foot({ feed, searching }: { feed: Feed; searching: boolean }) {
  const loaded = count(feed.events?.length ?? 0, "event");
  if (feed.full)
    return (
      <p class={`quiet ${css.pad}`}>
        {loaded} are loaded, as many as there may be: choose an earlier moment for older ones.
      </p>
    );
  // Scrolling to the end asks for more by itself; of what is being searched the end is no place to wait for that.
  if (!searching || feed.complete) return null;
  return (
    <p class={css.pad}>
      <Button small onClick={feed.older}>
        Look at older ones too
      </Button>{" "}
      <span class="quiet">{loaded} are looked at.</span>
    </p>
  );
}

function Types({ chosen, onChange }: { chosen: readonly string[]; onChange: (types: readonly string[]) => void }) {
  return (
    <details class={css.types}>
      <summary>{chosen.length === 0 ? "All types" : `${chosen.length} types: ${chosen.join(", ")}`}</summary>
      <div class={css.groups}>
        {EVENT_TYPES.map(({ kind, types }) => (
          <fieldset key={kind}>
            <legend>{kind}</legend>
            {types.map((type) => (
              <CheckField
                key={type}
                checked={chosen.includes(type)}
                onChange={(on) => onChange(on ? [...chosen, type] : chosen.filter((one) => one !== type))}
              >
                {type}
              </CheckField>
            ))}
          </fieldset>
        ))}
      </div>
    </details>
  );
}
