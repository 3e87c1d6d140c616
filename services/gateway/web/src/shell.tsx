import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { useLocation } from "preact-iso";
import { mayReadLog, signOut, who } from "./api/session";
import { words } from "./format";
import { Role } from "./gen/protos/events/v1/workspace_pb";
import { liveJobs } from "./live/stores";
import { hurry, linkUp } from "./live/streams";
import css from "./shell.module.css";
import { isOver } from "./states";
import { chooseTheme, theme } from "./theme";
import { Button } from "./ui/button";
import { EventsIcon, MoreIcon, RunnersIcon, SettingsIcon, TrainingsIcon, UsageIcon, WorkflowsIcon } from "./ui/icons";
import { Menu } from "./ui/menu";

/** What surrounds every page: navigation, who is signed in, and whether what one sees is live. */
export function Shell({ children }: { children: ComponentChildren }) {
  const { path } = useLocation();
  const nav = useRef<HTMLElement>(null);
  // On a narrow screen the links are a row that scrolls: the one of this page stays in sight.
  useEffect(() => {
    const here = nav.current?.querySelector<HTMLElement>(`[aria-current][href^="/${path.split("/")[1]}"]`);
    here?.scrollIntoView({ inline: "center", block: "nearest" });
  }, [path]);
  // Who comes from a link that is gone goes on at the content. Tabs within a page keep the focus on themselves.
  const main = useRef<HTMLElement>(null);
  const place = path.split("/").slice(0, 3).join("/");
  const last = useRef(place);
  useEffect(() => {
    if (last.current !== place) main.current?.focus({ preventScroll: true });
    last.current = place;
  }, [place]);
  const running = [...(liveJobs.value?.values() ?? [])].filter((job) => !isOver(job)).length;
  const link = (href: string, text: string, icon: ComponentChildren, count = 0) => {
    const here =
      path === href || path.startsWith(`${href}/`) || (href === "/trainings" && (path === "/" || path === "/compare"));
    return (
      <a class={css.link} href={href} aria-current={here ? "page" : undefined}>
        {icon}
        {text}
        {count > 0 && (
          <span class={css.count}>
            {count}
            <span class="visually-hidden"> not over</span>
          </span>
        )}
      </a>
    );
  };
  return (
    <>
      <a class={css.skip} href="#main">
        Skip to the content
      </a>
      <div class={css.shell}>
        <header class={css.side}>
          <a class={css.brand} href="/">
            <img src={new URL("./icon.svg", import.meta.url).href} alt="" />
            Tether
          </a>
          <nav class={css.nav} aria-label="Pages" ref={nav}>
            {link("/trainings", "Trainings", <TrainingsIcon />, running)}
            {link("/workflows", "Workflows", <WorkflowsIcon />)}
            {link("/runners", "Runners", <RunnersIcon />)}
            {link("/usage", "Usage", <UsageIcon />)}
            {mayReadLog.value && link("/events", "Event log", <EventsIcon />)}
            {link("/settings", "Settings", <SettingsIcon />)}
          </nav>
          <div class={css.foot}>
            <div class={css.account}>
              <div>
                <div class="break">{who.value?.workspaceName}</div>
                <div class="quiet">{words(Role, who.value?.role ?? Role.UNSPECIFIED)}</div>
              </div>
              <Account />
            </div>
          </div>
        </header>
        <div>
          {!linkUp.value && (
            <div class={css.lost} role="alert">
              <span>⚠ The platform does not answer. What you see may be old; trainings run on.</span>
              <Button small onClick={hurry}>
                Try now
              </Button>
            </div>
          )}
          <main class={css.main} id="main" ref={main} tabIndex={-1}>
            {children}
          </main>
        </div>
      </div>
    </>
  );
}

function Account() {
  const next = { system: "dark", dark: "light", light: "system" } as const;
  return (
    <Menu
      label="Account and appearance"
      items={[
        { label: `Appearance: ${theme.value} → ${next[theme.value]}`, onChoose: () => chooseTheme(next[theme.value]) },
        { label: "Sign out", onChoose: () => void signOut() },
      ]}
    >
      <MoreIcon />
    </Menu>
  );
}
