import { signal } from "@preact/signals";
import css from "./kit.module.css";

interface Toast {
  readonly id: number;
  readonly text: string;
}

const toasts = signal<readonly Toast[]>([]);
let ids = 0;
const SHOWN_MS = 6000;

/** Says for some seconds that something was done. Errors do not belong here: they stay where they happened. */
export function say(text: string): void {
  const id = ++ids;
  toasts.value = [...toasts.value.slice(-2), { id, text }];
  setTimeout(() => dismiss(id), SHOWN_MS);
}

function dismiss(id: number): void {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}

export function Toasts() {
  return (
    <div class={css.toasts} role="status" aria-live="polite">
      {toasts.value.map((toast) => (
        <div key={toast.id} class={css.toast}>
          <span class="break">{toast.text}</span>
          <button type="button" aria-label="Dismiss" onClick={() => dismiss(toast.id)}>
            ✕
          </button>
        </div>
      ))}
    </div>
  );
}
