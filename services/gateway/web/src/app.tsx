import { useEffect, useRef } from "preact/hooks";
import { ErrorBoundary, LocationProvider, lazy, Route, Router } from "preact-iso";
import { currentToken, who } from "./api/session";
import "./leave";
import { startStores } from "./live/stores";
import { shareSession } from "./live/streams";
import { NotFound } from "./pages/not-found";
import { SignIn } from "./pages/sign-in";
import { Shell } from "./shell";
import { Loading } from "./ui/note";
import { Toasts } from "./ui/toasts";

// Each page is a file of its own that is loaded when it is first opened.
const Runners = lazy(() => import("./pages/runners/list"));
const Runner = lazy(() => import("./pages/runners/runner"));
const Workflows = lazy(() => import("./pages/workflows/list"));
const Workflow = lazy(() => import("./pages/workflows/workflow"));
const Trainings = lazy(() => import("./pages/trainings/list"));
const Training = lazy(() => import("./pages/trainings/training"));
const Compare = lazy(() => import("./pages/trainings/compare"));
const Usage = lazy(() => import("./pages/usage/usage"));
const Events = lazy(() => import("./pages/events/events"));
const Settings = lazy(() => import("./pages/settings/settings"));

export function App() {
  const session = who.value;
  // Who is signed in decides what is watched; another token begins everything anew.
  // Where the platform did not answer, the token is neither good nor bad: the other tabs keep their sessions.
  const unanswered = session === null && currentToken() !== null;
  const token = session ? currentToken() : unanswered ? undefined : session;
  // Only a session that was this tab's ends the others' with it: a stale link, or a slow start, ends nobody's.
  const had = useRef(false);
  useEffect(() => {
    if (token === undefined || (token === null && !had.current)) return;
    had.current = token !== null;
    shareSession(token);
    if (token !== null) return startStores();
  }, [token]);
  if (session === undefined) return <Loading what="Opening Tether" />;
  if (session === null) return <SignIn />;
  return (
    <LocationProvider>
      <Shell>
        <ErrorBoundary>
          <Router>
            <Route path="/" component={Trainings} />
            <Route path="/runners" component={Runners} />
            <Route path="/runners/:id" component={Runner} />
            <Route path="/workflows" component={Workflows} />
            <Route path="/workflows/:id" component={Workflow} />
            <Route path="/trainings" component={Trainings} />
            <Route path="/trainings/:id" component={Training} />
            <Route path="/trainings/:id/:tab" component={Training} />
            <Route path="/compare" component={Compare} />
            <Route path="/usage" component={Usage} />
            <Route path="/events" component={Events} />
            <Route path="/settings" component={Settings} />
            <Route path="/settings/:tab" component={Settings} />
            <Route default component={NotFound} />
          </Router>
        </ErrorBoundary>
      </Shell>
      <Toasts />
    </LocationProvider>
  );
}
