import { ago } from "../format";
import { now } from "../time";

/** How long ago a moment was. A component of its own: what is around it need not be drawn anew each second. */
export function Ago({ ms }: { ms: number }) {
  return <>{ago(ms, now.value)}</>;
}
