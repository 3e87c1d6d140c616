import { useMemo, useState } from "preact/hooks";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import { Card } from "../../ui/layout";
import { Empty, Failed, Loading } from "../../ui/note";
import { Rows } from "../../ui/rows";
import { EventRow } from "../events/row";
import { type Filter, NEWEST, useFeed } from "../events/use-feed";

/** What happened to a training, from the event log, newest first. */
export default function History({ job }: { job: Job }) {
  const filter = useMemo<Filter>(() => ({ streamKind: "job", streamId: job.jobId }), [job.jobId]);
  const feed = useFeed(filter, NEWEST, false);
  const [opened, setOpened] = useState<ReadonlySet<bigint>>(new Set());
  const toggle = (position: bigint) => {
    const next = new Set(opened);
    if (!next.delete(position)) next.add(position);
    setOpened(next);
  };
  return (
    <Card flush>
      {feed.problem && <Failed retry={feed.reload}>{feed.problem}</Failed>}
      {feed.events === undefined ? (
        !feed.problem && <Loading what="Reading the event log" />
      ) : feed.events.length === 0 ? (
        <Empty title="No events">The log tells nothing of this training.</Empty>
      ) : (
        <Rows
          label="Events of this training"
          items={feed.events}
          keyOf={(event) => String(event.position)}
          height={40}
          window="max(320px, calc(100dvh - 260px))"
          onEnd={feed.complete ? undefined : feed.older}
        >
          {(event) => (
            <EventRow alone event={event} open={opened.has(event.position)} onToggle={() => toggle(event.position)} />
          )}
        </Rows>
      )}
    </Card>
  );
}
