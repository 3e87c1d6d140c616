import { render } from "preact";
import { begin, beginWithCode, currentToken, relearnTime, who } from "./api/session";
import { App } from "./app";
import { startStreams } from "./live/streams";
import "./styles.css";
import { applyTheme } from "./theme";
import { startClock } from "./time";

// How long another tab has to tell of its session, before this one asks for a token.
const OTHER_TABS_MS = 250;

applyTheme();
startClock();
startStreams();
void start();
document.addEventListener("visibilitychange", () => document.hidden || void relearnTime());

const root = document.getElementById("page");
if (root !== null) render(<App />, root);

async function start(): Promise<void> {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (code !== null) {
    // At once: a code must stay neither in the address bar nor in the history.
    history.replaceState(null, "", location.pathname + location.search);
    await beginWithCode(code);
    return;
  }
  const token = currentToken();
  if (token !== null) {
    await begin(token);
    return;
  }
  setTimeout(() => {
    if (who.value === undefined && currentToken() === null) who.value = null;
  }, OTHER_TABS_MS);
}
