import type { ComponentChildren } from "preact";
import { Button } from "../../ui/button";
import { Copy } from "../../ui/copy";
import { Dialog } from "../../ui/dialog";
import { Note } from "../../ui/note";

interface SecretProps {
  title: string;
  /** What is copied, for example `the token`. */
  what: string;
  secret: string;
  /** What to do where the answer with the secret got lost; set: there is none to show. */
  lost?: string;
  children?: ComponentChildren;
  onClose: () => void;
}

/** A secret, shown this once. */
export function Secret({ title, what, secret, lost, children, onClose }: SecretProps) {
  return (
    <Dialog
      title={title}
      width={640}
      onClose={onClose}
      actions={
        <Button kind="primary" onClick={onClose}>
          Done
        </Button>
      }
    >
      {lost ? (
        <Note tone="warn">{lost}</Note>
      ) : (
        <>
          <p>
            Copy it now: it is <strong>shown only this once</strong> and kept nowhere.
          </p>
          <Copy text={secret} label={what} />
          {children}
        </>
      )}
    </Dialog>
  );
}
