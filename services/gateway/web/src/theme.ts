import { signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

// A preference is no secret: it may outlive the tab.
const KEY = "tether.theme";
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function stored(): Theme {
  const value = localStorage.getItem(KEY);
  return value === "light" || value === "dark" ? value : "system";
}

export const theme = signal<Theme>(stored());
/** Counts up when colours change: what is drawn on a canvas is drawn anew. */
export const colours = signal(0);

export function applyTheme(): void {
  const isDark = theme.value === "dark" || (theme.value === "system" && dark.matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  colours.value += 1;
}

export function chooseTheme(chosen: Theme): void {
  theme.value = chosen;
  if (chosen === "system") localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, chosen);
  applyTheme();
}

/** A colour of styles.css as it is now, for canvases: `colour("--accent")`. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

dark.addEventListener("change", applyTheme);
