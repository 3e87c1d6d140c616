import type { ComponentType } from "preact";
import { useLocation, useRoute } from "preact-iso";
import { mayAdmin, mayReadLog } from "../../api/session";
import { ButtonLink } from "../../ui/button";
import { Head } from "../../ui/layout";
import { Empty } from "../../ui/note";
import { Tabs } from "../../ui/tabs";
import { Appearance } from "./appearance";
import { Quota } from "./quota";
import { Tokens } from "./tokens";
import { Webhook } from "./webhook";
import { Workspace } from "./workspace";

interface Tab {
  readonly id: string;
  readonly label: string;
  readonly page: ComponentType;
  /** Whether the one who is signed in may read it. */
  readonly allowed: () => boolean;
}

const everybody = () => true;
const TABS: readonly Tab[] = [
  { id: "tokens", label: "Tokens and roles", page: Tokens, allowed: () => mayAdmin.value },
  { id: "quota", label: "Quota", page: Quota, allowed: everybody },
  { id: "webhook", label: "Webhook", page: Webhook, allowed: () => mayReadLog.value },
  { id: "workspace", label: "Workspace", page: Workspace, allowed: everybody },
  { id: "appearance", label: "Appearance", page: Appearance, allowed: everybody },
];

/** What is set for the workspace, and for this browser. */
export default function Settings() {
  const { route } = useLocation();
  const wanted = useRoute().params.tab ?? "";
  const tabs = TABS.filter((tab) => tab.allowed());
  const chosen = wanted === "" ? tabs[0] : tabs.find((tab) => tab.id === wanted);
  const refused = chosen === undefined && TABS.some((tab) => tab.id === wanted);
  if (chosen === undefined)
    return (
      <>
        <Head title="Settings" />
        <Empty
          title={refused ? "This is for admins" : "There is no such setting"}
          action={<ButtonLink href="/settings">All settings</ButtonLink>}
        >
          {refused ? "Your token does not open it; ask an admin." : `Nothing is called “${wanted}” here.`}
        </Empty>
      </>
    );
  const Page = chosen.page;
  return (
    <>
      <Head title="Settings" />
      <Tabs label="Settings" tabs={tabs} chosen={chosen.id} onChoose={(id) => route(`/settings/${id}`)}>
        <Page />
      </Tabs>
    </>
  );
}
