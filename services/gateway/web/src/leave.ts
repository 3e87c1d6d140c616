// Asks before what was typed on a page is left behind. Imported with the app, before its router listens: on the window
// listeners are called in the order in which they came, and what is stopped here does not get to the router.
let guard: { readonly here: string; readonly ask: (target: string) => void } | undefined;

/** Until the function that it returns is called, `ask` is told of a way to another page, which is not gone then. */
export function holdHere(ask: (target: string) => void): () => void {
  const mine = { here: location.pathname + location.search, ask };
  guard = mine;
  const closing = (event: BeforeUnloadEvent) => event.preventDefault();
  window.addEventListener("beforeunload", closing);
  return () => {
    window.removeEventListener("beforeunload", closing);
    if (guard === mine) guard = undefined;
  };
}

function isHere(pathname: string): boolean {
  return guard === undefined || pathname === guard.here.split("?")[0];
}

window.addEventListener("popstate", (event) => {
  if (guard === undefined || isHere(location.pathname)) return;
  const target = location.pathname + location.search;
  event.stopImmediatePropagation();
  // The browser has gone already: back to where the person still is.
  history.pushState(null, "", guard.here);
  guard.ask(target);
});

document.addEventListener(
  "click",
  (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.button !== 0) return;
    const link = event.composedPath().find((one) => one instanceof HTMLAnchorElement);
    if (guard === undefined || link === undefined || link.origin !== location.origin || link.target) return;
    if (link.hasAttribute("download") || isHere(link.pathname)) return;
    event.preventDefault();
    event.stopPropagation();
    guard.ask(link.pathname + link.search);
  },
  true,
);
