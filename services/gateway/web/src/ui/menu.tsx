import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import css from "./kit.module.css";

export interface MenuItem {
  readonly label: string;
  readonly onChoose: () => void;
  readonly disabled?: boolean;
}

interface MenuProps {
  /** What the button is for, read out and shown as a hint. */
  label: string;
  children: ComponentChildren;
  items: readonly MenuItem[];
}

/** A button that opens a short list of actions: arrow keys move, Escape closes. */
export function Menu({ label, children, items }: MenuProps) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (!open || list.current === null || button.current === null) return;
    // Above everything, or a box that scrolls would cut it off.
    list.current.showPopover?.();
    place(list.current, button.current.getBoundingClientRect());
  }, [open]);
  useEffect(() => {
    if (!open) return;
    const outside = (event: PointerEvent) => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    const moved = () => setOpen(false);
    document.addEventListener("pointerdown", outside);
    document.addEventListener("scroll", moved, true);
    window.addEventListener("resize", moved);
    root.current?.querySelector<HTMLElement>('[role="menuitem"]:not(:disabled)')?.focus();
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("scroll", moved, true);
      window.removeEventListener("resize", moved);
    };
  }, [open]);
  const close = () => {
    setOpen(false);
    button.current?.focus();
  };
  const move = (event: KeyboardEvent) => {
    if (event.key === "Escape" || event.key === "Tab") return close();
    const entries = [...(root.current?.querySelectorAll<HTMLElement>('[role="menuitem"]:not(:disabled)') ?? [])];
    const at = entries.indexOf(document.activeElement as HTMLElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined || entries.length === 0) return;
    event.preventDefault();
    entries[(at + step + entries.length) % entries.length]?.focus();
  };
  return (
    <div class={css.menu} ref={root}>
      <button
        ref={button}
        type="button"
        class={`${css.button} ${css.ghost} ${css.icon}`}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-label={label}
        title={label}
        onClick={() => setOpen(!open)}
      >
        {children}
      </button>
      {open && (
        <div
          ref={list}
          popover="manual"
          class={css.menuItems}
          role="menu"
          tabIndex={-1}
          aria-label={label}
          onKeyDown={move}
        >
          {items.map((item) => (
            <button
              key={item.label}
              type="button"
              role="menuitem"
              class={css.menuItem}
              disabled={item.disabled}
              onClick={() => {
                close();
                item.onChoose();
              }}
            >
              {item.label}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}

const GAP_PX = 4;
const EDGE_PX = 8;

/** Below the button, or above it where there is no room; never beyond an edge of the window. */
function place(list: HTMLElement, button: DOMRect): void {
  const { width, height } = list.getBoundingClientRect();
  const below = button.bottom + GAP_PX;
  const top = below + height > window.innerHeight - EDGE_PX ? button.top - GAP_PX - height : below;
  const left = Math.min(button.right - width, window.innerWidth - EDGE_PX - width);
  list.style.top = `${Math.max(top, EDGE_PX)}px`;
  list.style.left = `${Math.max(left, EDGE_PX)}px`;
}
