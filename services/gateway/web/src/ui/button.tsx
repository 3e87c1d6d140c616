import type { ComponentChildren } from "preact";
import css from "./kit.module.css";

type Kind = "plain" | "primary" | "run" | "danger" | "ghost";

interface Shared {
  kind?: Kind;
  small?: boolean;
  children: ComponentChildren;
}

interface ButtonProps extends Shared {
  onClick?: (event: MouseEvent) => void;
  disabled?: boolean;
  /** Something is under way: cannot be pressed again, and turns. */
  busy?: boolean;
  submit?: boolean;
  /** For a button whose content is a picture only. */
  label?: string;
  id?: string;
}

export function Button({ kind = "plain", small, children, onClick, disabled, busy, submit, label, id }: ButtonProps) {
  return (
    <button
      id={id}
      type={submit ? "submit" : "button"}
      class={look(kind, small, label !== undefined)}
      onClick={onClick}
      disabled={disabled || busy}
      aria-busy={busy || undefined}
      aria-label={label}
      title={label}
    >
      {busy && <span class={css.spinner} aria-hidden="true" />}
      {children}
    </button>
  );
}

/** A link that looks like a button. */
export function ButtonLink({ kind = "plain", small, children, href }: Shared & { href: string }) {
  return (
    <a class={look(kind, small, false)} href={href}>
      {children}
    </a>
  );
}

function look(kind: Kind, small: boolean | undefined, icon: boolean): string {
  return [css.button, kind !== "plain" && css[kind], small && css.small, icon && css.icon].filter(Boolean).join(" ");
}
