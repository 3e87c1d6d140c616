import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import css from "./kit.module.css";

interface HeadProps {
  title: string;
  /** Instead of the title's text, where it has more than that. */
  heading?: ComponentChildren;
  children?: ComponentChildren;
  actions?: ComponentChildren;
}

/** The top of a page; its title is the tab's too. */
export function Head({ title, heading, children, actions }: HeadProps) {
  useEffect(() => {
    document.title = `${title} · Tether`;
  }, [title]);
  return (
    <div class={css.head}>
      <div class={css.headText}>
        <h1>{heading ?? title}</h1>
        {children && <div class="quiet">{children}</div>}
      </div>
      {actions && <div class={css.headActions}>{actions}</div>}
    </div>
  );
}

interface CardProps {
  title?: ComponentChildren;
  actions?: ComponentChildren;
  children: ComponentChildren;
  /** Content up to the edges, as a table has it. */
  flush?: boolean;
}

export function Card({ title, actions, children, flush }: CardProps) {
  return (
    <section class={css.card}>
      {(title || actions) && (
        <div class={css.cardHead}>
          {title && <h2>{title}</h2>}
          {actions}
        </div>
      )}
      {flush ? children : <div class={css.cardBody}>{children}</div>}
    </section>
  );
}

/** Facts as pairs of a name and what is known; pairs without a value are left out. */
export function Facts({ of }: { of: readonly (readonly [string, ComponentChildren])[] }) {
  return (
    <dl class={css.facts}>
      {of
        .filter(([, value]) => value !== "" && value !== undefined && value !== null && value !== false)
        .map(([name, value]) => (
          <>
            <dt key={name}>{name}</dt>
            <dd>{value}</dd>
          </>
        ))}
    </dl>
  );
}

/** A table that scrolls sideways by itself where it is too wide. */
export function Table({
  label,
  head,
  children,
}: {
  label: string;
  head: ComponentChildren;
  children: ComponentChildren;
}) {
  return (
    <section class={css.tableWrap} tabIndex={0} aria-label={label}>
      <table class={css.table}>
        <thead>
          <tr>{head}</tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </section>
  );
}

/** Class of a table's cell with numbers. */
export const right = css.right;
