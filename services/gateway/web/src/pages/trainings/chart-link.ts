import type { Axis } from "./chart-data";

/** Where the cursor is; undefined: on no chart. */
export type Place = { readonly axis: Axis; readonly x: number } | undefined;

/** Links the cursors of charts: where one is pointed at, all show the same moment of the training. */
export class ChartLink {
  private readonly charts = new Set<(place: Place) => void>();

  join(show: (place: Place) => void): () => void {
    this.charts.add(show);
    return () => this.charts.delete(show);
  }

  /** Told by the chart that is pointed at. */
  move(from: (place: Place) => void, place: Place): void {
    for (const show of this.charts) if (show !== from) show(place);
  }
}
