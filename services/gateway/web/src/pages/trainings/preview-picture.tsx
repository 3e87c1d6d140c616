import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { percent } from "../../format";
import type { Annotation, Box, LabelMap } from "../../gen/protos/metrics/v1/preview_pb";
import { annotationWords, className, decodeRuns, NOT_LABELLED } from "./drawing";
import { classColour, css as cssOf, textOn } from "./drawing-colours";
import css from "./preview.module.css";
import type { Shot } from "./preview-source";

/** How annotations are drawn. */
export interface Look {
  readonly labels: boolean;
  readonly confidences: boolean;
  /** Boxes below this confidence are left out. */
  readonly sure: number;
  /** Of a label map. */
  readonly opacity: number;
}

interface PictureProps {
  shot: Shot;
  /** What is drawn over the image; undefined: nothing. */
  annotation?: Annotation;
  classes: readonly string[];
  look: Look;
  /** `Ground truth` or `Prediction`. */
  caption: string;
}

/** An image with boxes or a label map over it; readers are told what is in it. */
export function Picture({ shot, annotation, classes, look, caption }: PictureProps) {
  const words = annotationWords(annotation, classes, look.sure);
  return (
    <figure class={css.figure}>
      <Frame shot={shot} alt={`${caption} of ${shot.path}: ${words}`}>
        {annotation?.labelMap && <Mask map={annotation.labelMap} classes={classes} opacity={look.opacity} />}
        {annotation && annotation.boxes.length > 0 && <Boxes of={annotation.boxes} classes={classes} look={look} />}
      </Frame>
      <figcaption class="quiet">{caption}</figcaption>
    </figure>
  );
}

// Smaller images are drawn larger; their pixels stay squares then.
const SMALL = 160;

export function Frame({ shot, alt, children }: { shot: Shot; alt: string; children?: ComponentChildren }) {
  const pixelated = Math.min(shot.width, shot.height) < SMALL;
  return (
    <div class={css.frame} style={{ aspectRatio: `${Math.max(shot.width, 1)} / ${Math.max(shot.height, 1)}` }}>
      {shot.url ? (
        <img class={pixelated ? css.pixelated : undefined} src={shot.url} alt={alt} draggable={false} />
      ) : (
        <span class={css.missing}>no picture arrived</span>
      )}
      {children}
    </div>
  );
}

function Boxes({ of, classes, look }: { of: readonly Box[]; classes: readonly string[]; look: Look }) {
  const shown = of.filter((box) => box.confidence >= look.sure);
  return (
    <>
      <svg class={css.over} viewBox="0 0 1 1" preserveAspectRatio="none" aria-hidden="true">
        {shown.map((box, n) => (
          <rect
            key={n}
            x={Math.min(box.left, box.right)}
            y={Math.min(box.top, box.bottom)}
            width={Math.abs(box.right - box.left)}
            height={Math.abs(box.bottom - box.top)}
            fill="none"
            stroke={cssOf(classColour(box.classIndex, classes[box.classIndex]))}
            stroke-width="2"
            vector-effect="non-scaling-stroke"
          />
        ))}
      </svg>
      {(look.labels || look.confidences) &&
        shown.map((box, n) => {
          const colour = classColour(box.classIndex, classes[box.classIndex]);
          const score = look.confidences && box.confidence < 1 ? box.confidence.toFixed(2) : "";
          const text = [look.labels && className(classes, box.classIndex), score].filter(Boolean).join(" ");
          const above = Math.min(box.top, box.bottom) > 0.1;
          return (
            text && (
              <span
                key={n}
                class={css.tag}
                aria-hidden="true"
                style={{
                  left: `${Math.min(Math.max(box.left, 0), 0.85) * 100}%`,
                  top: `${Math.max(box.top, 0) * 100}%`,
                  transform: above ? "translateY(-100%)" : "none",
                  background: cssOf(colour),
                  color: cssOf(textOn(colour)),
                }}
              >
                {text}
              </span>
            )
          );
        })}
    </>
  );
}

function Mask({ map, classes, opacity }: { map: LabelMap; classes: readonly string[]; opacity: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [seen, setSeen] = useState(false);
  // A page may have more maps than can be painted without a pause: those in sight are.
  useEffect(() => {
    const element = canvas.current;
    if (element === null) return;
    const observer = new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && setSeen(true), {
      rootMargin: "200px",
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    const context = seen ? canvas.current?.getContext("2d") : null;
    if (!context || map.width * map.height === 0) return;
    const data = context.createImageData(map.width, map.height);
    const words = new Uint32Array(data.data.buffer);
    const palette = Uint32Array.from({ length: 256 }, (_, index) => {
      if (index === NOT_LABELLED) return 0;
      const [red, green, blue] = classColour(index, classes[index]);
      // What belongs to nothing hides less of the image than what is looked for.
      const alpha = classes[index] === "background" ? 90 : 255;
      return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    });
    const pixels = decodeRuns(map);
    for (let at = 0; at < words.length; at++) words[at] = palette[pixels[at] ?? NOT_LABELLED] ?? 0;
    context.putImageData(data, 0, 0);
  }, [seen, map, classes]);
  return (
    <canvas
      ref={canvas}
      class={`${css.over} ${css.pixelated}`}
      width={map.width}
      height={map.height}
      style={{ opacity }}
      aria-hidden="true"
    />
  );
}

/** The likeliest classes, each with its confidence as a bar. */
export function Likeliest({
  of,
  truth,
  classes,
  look,
}: {
  of: Annotation;
  /** Index of the class that it is; undefined where that is not to be shown. */
  truth: number | undefined;
  classes: readonly string[];
  look: Look;
}) {
  return (
    <ol class={css.likeliest}>
      {of.labels.map((label) => {
        const is = label.classIndex === truth;
        return (
          <li key={label.classIndex} class={is ? css.is : undefined}>
            <span class={css.name}>
              {look.labels ? className(classes, label.classIndex) : ""}
              {is && <span class="visually-hidden"> (the ground truth)</span>}
            </span>
            <span class={css.track} aria-hidden="true">
              <span style={{ width: `${Math.min(Math.max(label.confidence, 0), 1) * 100}%` }} />
            </span>
            {look.confidences && (
              <span class="number">{percent(label.confidence, label.confidence < 0.995 ? 1 : 0)}</span>
            )}
          </li>
        );
      })}
    </ol>
  );
}

export function Legend({ indices, classes }: { indices: readonly number[]; classes: readonly string[] }) {
  const shown = indices.slice(0, 30);
  if (shown.length === 0) return null;
  return (
    <ul class={css.legend} aria-label="Classes">
      {shown.map((index) => (
        <li key={index}>
          <span
            class={css.swatch}
            aria-hidden="true"
            style={{ background: index === NOT_LABELLED ? "none" : cssOf(classColour(index, classes[index])) }}
          />
          {className(classes, index)}
        </li>
      ))}
      {indices.length > shown.length && <li class="quiet">and {indices.length - shown.length} more</li>}
    </ul>
  );
}
