import { call, evaluations } from "../../api/clients";
import type { Annotation, PreviewImage } from "../../gen/protos/metrics/v1/preview_pb";

/** One image with what is in it and what was predicted. */
export interface Shot {
  readonly number: number;
  readonly path: string;
  readonly width: number;
  readonly height: number;
  /** Address of its pixels; empty: they did not arrive. */
  readonly url: string;
  readonly truth: Annotation | undefined;
  readonly found: Annotation | undefined;
}

/** What was predicted at one evaluation. */
export interface Preview {
  readonly step: number;
  /** Every step that has a preview, ascending. */
  readonly steps: readonly number[];
  readonly classes: readonly string[];
  readonly shots: readonly Shot[];
}

// Predictions of one evaluation may take 4 MB.
const MOST_KEPT = 24;

type Ask = Pick<typeof evaluations, "getPreview">;

/** Asks for previews of one job: pixels once, each step once. `close` frees the pixels. */
export class PreviewSource {
  private readonly urls = new Map<string, string>();
  private readonly kept = new Map<number, Preview>();
  private closed = false;

  constructor(
    private readonly jobId: string,
    private readonly api: Ask = evaluations,
  ) {}

  /** The preview at a step; zero: the newest, which is always asked for. */
  async at(step: number, signal?: AbortSignal): Promise<Preview> {
    const known = this.kept.get(step);
    if (known !== undefined) return known;
    const ask = (withoutPixels: boolean) =>
      this.api.getPreview({ jobId: this.jobId, step: BigInt(step), withoutPixels }, call(signal));
    let answer = await ask(this.urls.size > 0);
    // A later attempt may show other images than the ones that are here.
    if (answer.images.some((image) => image.jpeg.length === 0 && !this.urls.has(keyOf(image))))
      answer = await ask(false);
    const predictions = new Map(answer.predictions.map((one) => [one.number, one.annotation]));
    const preview: Preview = {
      step: Number(answer.step),
      steps: answer.steps.map(Number),
      classes: answer.classes,
      shots: answer.images.map((image) => ({
        number: image.number,
        path: image.path,
        width: image.width,
        height: image.height,
        url: this.urlOf(image),
        truth: image.truth,
        found: predictions.get(image.number),
      })),
    };
    this.keep(preview);
    return preview;
  }

  close(): void {
    this.closed = true;
    for (const url of this.urls.values()) URL.revokeObjectURL(url);
    this.urls.clear();
    this.kept.clear();
  }

  private urlOf(image: PreviewImage): string {
    const known = this.urls.get(keyOf(image));
    if (known !== undefined || image.jpeg.length === 0 || this.closed) return known ?? "";
    const url = URL.createObjectURL(new Blob([new Uint8Array(image.jpeg)], { type: "image/jpeg" }));
    this.urls.set(keyOf(image), url);
    return url;
  }

  private keep(preview: Preview): void {
    this.kept.set(preview.step, preview);
    const oldest = this.kept.keys().next().value;
    if (this.kept.size > MOST_KEPT && oldest !== undefined) this.kept.delete(oldest);
  }
}

function keyOf(image: PreviewImage): string {
  return `${image.number} ${image.width} ${image.height} ${image.path}`;
}
