import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Failed, Loading } from "../../ui/note";

/** A part of a page that is loaded when it is first shown, without the rest waiting for it. */
export function later<P extends object>(load: () => Promise<{ default: ComponentType<P> }>): ComponentType<P> {
  let loaded: ComponentType<P> | undefined;
  return function Later(props: P) {
    const [round, setRound] = useState(0);
    const [failed, setFailed] = useState(false);
    // biome-ignore lint/correctness/useExhaustiveDependencies: each round is another try
    useEffect(() => {
      if (loaded !== undefined) return;
      let gone = false;
      setFailed(false);
      load().then(
        (module) => {
          loaded = module.default;
          if (!gone) setRound((n) => n + 1);
        },
        () => !gone && setFailed(true),
      );
      return () => {
        gone = true;
      };
    }, [round]);
    const Part = loaded;
    if (Part !== undefined) return <Part {...props} />;
    if (failed) return <Failed retry={() => setRound(round + 1)}>This part of the page could not be loaded.</Failed>;
    return <Loading what="Loading" />;
  };
}
