import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useReducer, useRef, useState } from "preact/hooks";

interface RowsProps<T> {
  label: string;
  items: readonly T[];
  keyOf: (item: T) => string;
  children: (item: T) => ComponentChildren;
  /** A row's height in pixels, about; real ones are measured. */
  height: number;
  /** Largest height of the window on the rows, as CSS has it; fewer rows make it smaller. */
  window: string;
  /** Called when the end comes near: the next page is wanted. */
  onEnd?: () => void;
  /** Called when the start comes near: what lies before is wanted. For lists that `follow`. */
  onStart?: () => void;
  /** Keep the end in sight while it is in sight, as a log does; rows that come before what one reads move nothing. */
  follow?: boolean;
  /** Told when the end comes in sight and when it leaves it. */
  onAtEnd?: (atEnd: boolean) => void;
  /** Goes to the end whenever this number changes. */
  toEnd?: number;
  /** Key of a row that is brought into sight, once, as soon as there is one. */
  reveal?: string;
}

/** A long list of which only the rows in sight exist. */
export function Rows<T>(props: RowsProps<T>) {
  const {
    label,
    items,
    keyOf,
    children,
    height,
    window: windowHeight,
    onEnd,
    onStart,
    follow,
    onAtEnd,
    toEnd,
    reveal,
  } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const atEnd = useRef(true);
  const [virtual] = useState(
    () =>
      new Virtualizer<HTMLDivElement, HTMLElement>({
        count: 0,
        getScrollElement: () => scroller.current,
        estimateSize: () => height,
        observeElementRect,
        observeElementOffset,
        scrollToFn: elementScroll,
        overscan: 12,
      }),
  );
  virtual.setOptions({
    ...virtual.options,
    count: items.length,
    estimateSize: () => height,
    anchorTo: follow ? "end" : "start",
    getItemKey: (index) => {
      const item = items[index];
      return item === undefined ? index : keyOf(item);
    },
    onChange: () => redraw(undefined),
  });
  useLayoutEffect(() => virtual._didMount(), [virtual]);
  useLayoutEffect(() => virtual._willUpdate());
  const shown = virtual.getVirtualItems();
  const last = shown.at(-1)?.index ?? -1;
  useLayoutEffect(() => {
    if (onEnd && items.length > 0 && last >= items.length - 20) onEnd();
  }, [last, items.length, onEnd]);
  const first = shown[0]?.index ?? 0;
  useLayoutEffect(() => {
    if (onStart && items.length > 0 && first <= 20) onStart();
  }, [first, items.length, onStart]);
  const lastItem = items.at(-1);
  const lastKey = lastItem === undefined ? "" : keyOf(lastItem);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new last row is what is followed
  useLayoutEffect(() => {
    if (follow && atEnd.current && items.length > 0) virtual.scrollToIndex(items.length - 1, { align: "end" });
  }, [follow, items.length, lastKey, virtual]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: only when it is asked for
  useLayoutEffect(() => {
    if (toEnd && items.length > 0) virtual.scrollToIndex(items.length - 1, { align: "end" });
  }, [toEnd]);
  const revealed = useRef<string>(undefined);
  useLayoutEffect(() => {
    if (reveal === undefined || reveal === revealed.current) return;
    const index = items.findIndex((item) => keyOf(item) === reveal);
    if (index < 0) return;
    revealed.current = reveal;
    // With a little of what lies before it; the row itself may be taller than the window.
    virtual.scrollToIndex(Math.max(index - 2, 0), { align: "start" });
  }, [reveal, items, keyOf, virtual]);
  return (
    <section
      ref={scroller}
      aria-label={label}
      tabIndex={0}
      style={{
        height: `min(${virtual.getTotalSize()}px, ${windowHeight})`,
        overflow: "auto",
        position: "relative",
        overflowAnchor: "none",
      }}
      onScroll={(event) => {
        const { scrollTop, clientHeight, scrollHeight } = event.currentTarget;
        const isAtEnd = scrollTop + clientHeight >= scrollHeight - 40;
        if (isAtEnd !== atEnd.current) onAtEnd?.(isAtEnd);
        atEnd.current = isAtEnd;
      }}
    >
      <ol
        style={{
          height: `${virtual.getTotalSize()}px`,
          position: "relative",
          listStyle: "none",
          margin: 0,
          padding: 0,
        }}
      >
        {shown.map((row) => {
          const item = items[row.index];
          return (
            item !== undefined && (
              <li
                key={row.key}
                data-index={row.index}
                ref={(element) => virtual.measureElement(element)}
                style={{ position: "absolute", top: 0, left: 0, right: 0, transform: `translateY(${row.start}px)` }}
              >
                {children(item)}
              </li>
            )
          );
        })}
      </ol>
    </section>
  );
}
