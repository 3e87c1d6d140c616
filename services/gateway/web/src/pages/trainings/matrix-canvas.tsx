import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { colour } from "../../theme";
import { Button } from "../../ui/button";
import { type Colour, css as cssOf, shade, textOn } from "./drawing-colours";
import css from "./matrix.module.css";
import { cellText, type DrawnProps, moved, useRamp } from "./matrix-grid";
import { type Matrix, shares } from "./matrix-math";

// Sides of a cell in pixels, and from where on there is room for its number.
const SIZES = [1, 2, 3, 4, 6, 9, 14, 22, 34, 50];
const ROOM_FOR_NUMBERS = 34;

/** A matrix of many classes, painted: what is in sight, as large as one wants it. */
export function MatrixCanvas({ matrix, asShares, label, onTell }: DrawnProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const scroller = useRef<HTMLElement>(null);
  const [cursor, setCursor] = useState<readonly [number, number]>();
  const [window, setWindow] = useState({ left: 0, top: 0, width: 600, height: 600 });
  const n = matrix.classes.length;
  const [zoom, setZoom] = useState(() =>
    Math.max(
      SIZES.findLastIndex((size) => size * n <= 620),
      0,
    ),
  );
  const size = SIZES[zoom] ?? 1;
  const ramp = useRamp();
  const part = useMemo(() => shares(matrix), [matrix]);
  const picture = useMemo(() => painted(part, n, ramp), [part, n, ramp]);

  useEffect(() => {
    const element = scroller.current;
    if (element === null) return;
    const look = () =>
      setWindow({
        left: element.scrollLeft,
        top: element.scrollTop,
        width: element.clientWidth,
        height: element.clientHeight,
      });
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, []);

  const [width, height] = [Math.min(window.width, size * n), Math.min(window.height, size * n)];
  useEffect(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context) return;
    const ratio = devicePixelRatio || 1;
    element.width = Math.max(Math.round(width * ratio), 1);
    element.height = Math.max(Math.round(height * ratio), 1);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(picture, -window.left, -window.top, n * size, n * size);
    if (size >= ROOM_FOR_NUMBERS) numbers(context, matrix, part, ramp, asShares, size, window);
    if (cursor !== undefined) {
      context.strokeStyle = colour("--focus");
      context.lineWidth = 2;
      const at = (index: number, scrolled: number) => index * size - scrolled - 1;
      context.strokeRect(at(cursor[1], window.left), at(cursor[0], window.top), size + 2, size + 2);
    }
  }, [picture, matrix, part, ramp, asShares, size, window, width, height, cursor, n]);

  const point = (row: number, column: number) => {
    setCursor([row, column]);
    onTell(row, column);
  };
  const pointed = (event: PointerEvent) => {
    const bounds = canvas.current?.getBoundingClientRect();
    if (bounds === undefined) return;
    const row = Math.floor((event.clientY - bounds.top + window.top) / size);
    const column = Math.floor((event.clientX - bounds.left + window.left) / size);
    if (row >= 0 && column >= 0 && row < n && column < n) point(row, column);
  };
  const go = (event: KeyboardEvent) => {
    const to = moved(event.key, cursor?.[0] ?? 0, cursor?.[1] ?? -1, n);
    if (to === undefined) return;
    event.preventDefault();
    point(to[0], to[1]);
    const element = scroller.current;
    if (element === null) return;
    // Keeps the cell in sight.
    const into = (index: number, from: number, room: number) =>
      Math.min(Math.max(from, (index + 1) * size - room), index * size);
    element.scrollTo({
      left: into(to[1], element.scrollLeft, element.clientWidth),
      top: into(to[0], element.scrollTop, element.clientHeight),
    });
  };
  return (
    <>
      <div class={css.zoom}>
        <Button small label="Smaller cells" disabled={zoom === 0} onClick={() => setZoom(zoom - 1)}>
          <span aria-hidden="true">−</span>
        </Button>
        <Button small label="Larger cells" disabled={zoom === SIZES.length - 1} onClick={() => setZoom(zoom + 1)}>
          <span aria-hidden="true">+</span>
        </Button>
        <span class="quiet">{n.toLocaleString("en")} classes; enlarge it to read numbers</span>
      </div>
      {/* A canvas has no cells to put the focus on: the whole takes the keys, and the line below tells the cell. */}
      <section
        ref={scroller}
        class={css.canvasBox}
        role="img"
        aria-label={`${label}. Arrow keys go from cell to cell.`}
        tabIndex={0}
        onKeyDown={go}
        onPointerMove={pointed}
        onPointerLeave={() => onTell()}
      >
        <div class={css.canvasRoom} style={{ width: `${size * n}px`, height: `${size * n}px` }}>
          <canvas ref={canvas} style={{ width: `${width}px`, height: `${height}px` }} />
        </div>
      </section>
    </>
  );
}

/** Every cell as one pixel. */
function painted(part: Float64Array, n: number, ramp: readonly [Colour, Colour]): HTMLCanvasElement {
  const picture = document.createElement("canvas");
  picture.width = n;
  picture.height = n;
  const context = picture.getContext("2d");
  if (context === null) return picture;
  const data = context.createImageData(n, n);
  const cells = new Uint32Array(data.data.buffer);
  const word = ([red, green, blue]: Colour) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  const nothing = word(ramp[0]);
  const palette = Uint32Array.from({ length: 1001 }, (_, n) => word(shade(Math.max(n, 1) / 1000, ramp)));
  for (let at = 0; at < cells.length; at++) {
    const share = part[at] ?? 0;
    cells[at] = share > 0 ? (palette[Math.round(share * 1000)] ?? nothing) : nothing;
  }
  context.putImageData(data, 0, 0);
  return picture;
}

function numbers(
  context: CanvasRenderingContext2D,
  matrix: Matrix,
  part: Float64Array,
  ramp: readonly [Colour, Colour],
  asShares: boolean,
  size: number,
  window: { left: number; top: number; width: number; height: number },
): void {
  const n = matrix.classes.length;
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  const [firstRow, firstColumn] = [Math.floor(window.top / size), Math.floor(window.left / size)];
  const lastRow = Math.min(Math.ceil((window.top + window.height) / size), n);
  const lastColumn = Math.min(Math.ceil((window.left + window.width) / size), n);
  for (let row = firstRow; row < lastRow; row++)
    for (let column = firstColumn; column < lastColumn; column++) {
      const [count, share] = [matrix.counts[row * n + column] ?? 0, part[row * n + column] ?? 0];
      if (count === 0) continue;
      context.fillStyle = cssOf(textOn(shade(share, ramp)));
      const [x, y] = [(column + 0.5) * size - window.left, (row + 0.5) * size - window.top];
      context.fillText(cellText(count, share, asShares), x, y, size - 4);
    }
}
