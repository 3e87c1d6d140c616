import { signal } from "@preact/signals";

// Countdowns and "ago" are told by the platform's clock: the one of this computer may be wrong by hours.
let offsetMs = 0;

/** Learns the platform's time from an answer that was asked for and came at these moments of this computer. */
export function setPlatformTime(platformMs: number, askedMs: number, cameMs: number): void {
  if (platformMs > 0) offsetMs = platformMs - (askedMs + cameMs) / 2;
}

/** Platform time, Unix milliseconds. */
export function platformNow(): number {
  return Date.now() + offsetMs;
}

/** Platform time that components follow: moves each second while the page is visible. */
export const now = signal(platformNow());

export function startClock(): void {
  const tick = () => {
    if (!document.hidden) now.value = platformNow();
  };
  setInterval(tick, 1000);
  document.addEventListener("visibilitychange", tick);
}
