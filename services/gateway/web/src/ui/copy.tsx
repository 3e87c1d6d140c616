import { useState } from "preact/hooks";
import { Button } from "./button";
import css from "./kit.module.css";

/** A text to take along, with a button that copies it. */
export function Copy({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
      setTimeout(() => setCopied(false), 2000);
    } catch {
      // A browser that does not let pages write there: the text stays selectable.
      setCopied(false);
    }
  };
  return (
    <div class={css.copy}>
      <code>{text}</code>
      <Button label={`Copy ${label}`} onClick={() => void copy()}>
        <span aria-live="polite">{copied ? "Copied" : "Copy"}</span>
      </Button>
    </div>
  );
}
