import { useEffect, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { holdHere } from "../../leave";
import { Confirm } from "../../ui/dialog";

/** Asks before what was typed is left behind: on links of the page, on back and forward, on closing the tab. */
export function Unsaved({ when }: { when: boolean }) {
  const { route } = useLocation();
  const [target, setTarget] = useState<string>();
  useEffect(() => (when ? holdHere(setTarget) : undefined), [when]);
  if (target === undefined) return null;
  return (
    <Confirm
      title="Leave without saving?"
      verb="Leave"
      danger
      action={async () => route(target)}
      onClose={() => setTarget(undefined)}
    >
      What you changed here is not saved yet, and is lost if you leave.
    </Confirm>
  );
}
