import { useEffect, useRef, useState } from "preact/hooks";

const PAUSE_MS = 250;

/**
 * What is typed, which becomes the value once no letter has come for a moment; a value that changes otherwise is taken
 * over at once.
 */
export function useTyped(value: string, onChange: (typed: string) => void): [string, (typed: string) => void] {
  const [typed, setTyped] = useState(value);
  const latest = useRef({ value, onChange });
  latest.current = { value, onChange };
  const told = useRef(value);
  useEffect(() => {
    if (value !== told.current) setTyped(value);
    told.current = value;
  }, [value]);
  useEffect(() => {
    if (typed === latest.current.value) return;
    const timer = setTimeout(() => {
      // Cleared meanwhile, or told already.
      if (typed === latest.current.value) return;
      told.current = typed;
      latest.current.onChange(typed);
    }, PAUSE_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  return [typed, setTyped];
}
