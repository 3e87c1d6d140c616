import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { sentence } from "../api/errors";
import { Button } from "./button";
import css from "./kit.module.css";
import { Note } from "./note";

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  /** Buttons at the bottom right. */
  actions?: ComponentChildren;
  /** Widest, in pixels. */
  width?: number;
  /** Runs when Enter is pressed in a field, or a submit button. */
  onSubmit?: () => void;
}

/** A modal dialog; Escape closes it, focus goes back to where it was. */
export function Dialog({ title, onClose, children, actions, width = 560, onSubmit }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  // Not after painting: the browser gives the focus back only while the dialog is still in the page.
  useLayoutEffect(() => {
    const element = dialog.current;
    element?.showModal();
    element?.style.setProperty("--dialog-width", `${width}px`);
    return () => element?.close();
  }, [width]);
  const inside = (
    <>
      <div class={css.dialogHead}>
        <h2 id={heading}>{title}</h2>
        <Button kind="ghost" label="Close" onClick={onClose}>
          <span aria-hidden="true">✕</span>
        </Button>
      </div>
      <div class={css.dialogBody} tabIndex={0}>
        {children}
      </div>
      {actions && <div class={css.dialogFoot}>{actions}</div>}
    </>
  );
  return (
    <dialog
      ref={dialog}
      class={css.dialog}
      aria-labelledby={heading}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      {onSubmit ? (
        <form
          style={{ display: "contents" }}
          noValidate
          onSubmit={(event) => {
            event.preventDefault();
            onSubmit();
          }}
        >
          {inside}
        </form>
      ) : (
        inside
      )}
    </dialog>
  );
}

interface ConfirmProps {
  title: string;
  /** What will happen. */
  children: ComponentChildren;
  /** The word on the button, for example `Stop training`. */
  verb: string;
  danger?: boolean;
  action: () => Promise<unknown>;
  onClose: () => void;
}

/** Asks before something is done; tells the server's sentence where it is refused. */
export function Confirm({ title, children, verb, danger, action, onClose }: ConfirmProps) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const run = async () => {
    setBusy(true);
    setProblem("");
    try {
      await action();
      onClose();
    } catch (error) {
      setProblem(sentence(error));
      setBusy(false);
    }
  };
  return (
    <Dialog
      title={title}
      onClose={onClose}
      width={480}
      actions={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind={danger ? "danger" : "primary"} busy={busy} onClick={() => void run()}>
            {verb}
          </Button>
        </>
      }
    >
      <div>{children}</div>
      {problem && <Note tone="bad">{problem}</Note>}
    </Dialog>
  );
}
