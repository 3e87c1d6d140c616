import { useEffect } from "preact/hooks";
import { integer } from "../../format";
import { Button } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { Badge } from "../../ui/note";
import { annotationWords, className, type Verdict } from "./drawing";
import css from "./preview.module.css";
import { Frame, Likeliest, type Look, Picture } from "./preview-picture";
import type { Shot } from "./preview-source";

/** An image with what is thought of its prediction. */
export interface Shown {
  readonly shot: Shot;
  readonly verdict: Verdict | undefined;
}

interface Parts {
  readonly truth: boolean;
  readonly prediction: boolean;
}

interface CardProps {
  of: Shown;
  classes: readonly string[];
  look: Look;
  parts: Parts;
  onOpen: () => void;
}

/** One image in the gallery; pressing it shows it large. */
export function ShotCard({ of: { shot, verdict }, classes, look, parts, onOpen }: CardProps) {
  return (
    <article class={css.card}>
      <div class={css.picture}>
        {isLabelled(shot) ? (
          <Labelled shot={shot} classes={classes} look={look} parts={parts} />
        ) : (
          <Sides shot={shot} classes={classes} look={look} parts={parts} />
        )}
      </div>
      <Told verdict={verdict} />
      {/* Over everything, so that the whole card is pressed while what it shows stays readable for itself. */}
      <button type="button" class={css.open} onClick={onOpen} title={shot.path}>
        <span class="visually-hidden">Show {shot.path} large</span>
      </button>
    </article>
  );
}

function Told({ verdict }: { verdict: Verdict | undefined }) {
  if (verdict === undefined) return <Badge>no prediction</Badge>;
  return (
    <Badge tone={verdict.right ? "good" : "bad"}>
      <span aria-hidden="true">{verdict.right ? "✔" : "✘"}</span> {verdict.words}
    </Badge>
  );
}

interface SideProps {
  shot: Shot;
  classes: readonly string[];
  look: Look;
  parts: Parts;
}

/** A classification: the image, its class, and the likeliest classes. */
function Labelled({ shot, classes, look, parts }: SideProps) {
  const truth = shot.truth?.labels[0]?.classIndex;
  return (
    <div class={css.labels}>
      <Frame shot={shot} alt={`${shot.path}: ${annotationWords(shot.truth, classes)}`} />
      <div class={css.said}>
        {parts.truth && truth !== undefined && (
          <p>
            <span class="quiet">Ground truth</span> <strong>{className(classes, truth)}</strong>
          </p>
        )}
        {parts.prediction && shot.found && (
          <Likeliest of={shot.found} truth={parts.truth ? truth : undefined} classes={classes} look={look} />
        )}
      </div>
    </div>
  );
}

/** Detection and segmentation: the image twice. Without either side the image alone. */
function Sides({ shot, classes, look, parts }: SideProps) {
  const more = { shot, classes, look };
  return (
    <div class={css.pair}>
      {parts.truth && <Picture {...more} annotation={shot.truth} caption="Ground truth" />}
      {parts.prediction && <Picture {...more} annotation={shot.found} caption="Prediction" />}
      {!parts.truth && !parts.prediction && <Picture {...more} caption="Image" />}
    </div>
  );
}

function isLabelled(shot: Shot): boolean {
  return (shot.truth?.labels.length ?? 0) > 0 || (shot.found?.labels.length ?? 0) > 0;
}

interface LargeProps {
  all: readonly Shown[];
  at: number;
  classes: readonly string[];
  look: Look;
  step: number;
  onGo: (index: number) => void;
  onClose: () => void;
}

/** One image large, with both sides; arrow keys go on to the next. */
export function Large({ all, at, classes, look, step, onGo, onClose }: LargeProps) {
  const next = (by: number) => onGo((at + by + all.length) % all.length);
  useEffect(() => {
    const keys = (event: KeyboardEvent) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      onGo((at + by + all.length) % all.length);
    };
    document.addEventListener("keydown", keys);
    return () => document.removeEventListener("keydown", keys);
  }, [at, all.length, onGo]);
  const one = all[at];
  if (one === undefined) return null;
  const parts = { truth: true, prediction: true };
  return (
    <Dialog
      title={`Image ${at + 1} of ${all.length}, step ${integer(step)}`}
      width={1080}
      onClose={onClose}
      actions={
        <>
          <Button onClick={() => next(-1)}>‹ Previous</Button>
          <Button onClick={() => next(1)}>Next ›</Button>
        </>
      }
    >
      <div class={css.large}>
        {isLabelled(one.shot) ? (
          <Labelled shot={one.shot} classes={classes} look={look} parts={parts} />
        ) : (
          <Sides shot={one.shot} classes={classes} look={look} parts={parts} />
        )}
      </div>
      <div class={css.foot}>
        <Told verdict={one.verdict} />
        <code class="break quiet">{one.shot.path}</code>
        <span class="quiet number">
          {integer(one.shot.width)} × {integer(one.shot.height)} pixels
        </span>
      </div>
    </Dialog>
  );
}
