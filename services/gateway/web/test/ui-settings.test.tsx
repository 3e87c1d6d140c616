import { create } from "@bufbuild/protobuf";
import { cleanup, render } from "@testing-library/preact";
import { LocationProvider, Route, Router } from "preact-iso";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import * as session from "../src/api/session";
import { WebhookKind } from "../src/gen/protos/eventlog/v1/eventlog_pb";
import { Role, TokenKind } from "../src/gen/protos/events/v1/workspace_pb";
import { AccessService, TokenSchema } from "../src/gen/protos/scheduler/v1/access_pb";
import { kindWords, ordered, tokenKind, tokenState } from "../src/pages/settings/roles";
import Settings from "../src/pages/settings/settings";
import { Gateway, settle } from "./support/gateway";

const NOW = 1_000_000;

describe("tokens", () => {
  const token = (tokenId: string, more = {}) => create(TokenSchema, { tokenId, ...more });

  test("that still open something come first, the newest of each first", () => {
    const all = [
      token("old", { createdAtMs: 1n }),
      token("revoked", { createdAtMs: 9n, revoked: true }),
      token("expired", { createdAtMs: 8n, expiresAtMs: 999_999n }),
      token("new", { createdAtMs: 5n, expiresAtMs: 1_000_001n }),
    ];
    expect(ordered(all, NOW).map((one) => one.tokenId)).toEqual(["new", "old", "revoked", "expired"]);
    expect(ordered(all, NOW).map((one) => tokenState(one, NOW).label)).toEqual([
      "valid",
      "valid",
      "revoked",
      "expired",
    ]);
  });

  test("that were made to be kept are told from sign-ins on the page", () => {
    expect([token("a"), token("b", { kind: TokenKind.SIGN_IN })].map(tokenKind)).toEqual(["token", "sign-in"]);
  });
});

test("no kind of a webhook is every kind", () => {
  expect(kindWords([])).toBe("all kinds");
  expect(kindWords([WebhookKind.FAILED, WebhookKind.QUOTA])).toBe("failed, quota");
  expect(kindWords([99 as WebhookKind])).toBe("kind 99");
});

describe("the tabs", () => {
  let gateway: Gateway;
  beforeEach(() => {
    gateway = new Gateway();
  });
  afterEach(() => {
    cleanup();
    session.end();
    vi.unstubAllGlobals();
  });

  const shown = async (role: Role, path: string) => {
    gateway.on(AccessService.method.whoAmI, () => ({ kind: "token", role }));
    gateway.on(AccessService.method.listTokens, () => {
      throw new Error("asked for tokens");
    });
    await session.begin("tt_1");
    history.replaceState(null, "", path);
    const page = render(
      <LocationProvider>
        <Router>
          <Route path="/settings" component={Settings} />
          <Route path="/settings/:tab" component={Settings} />
        </Router>
      </LocationProvider>,
    );
    await settle();
    return page;
  };

  test.each([
    [Role.VIEWER, ["Quota", "Workspace", "Appearance"]],
    [Role.MEMBER, ["Quota", "Workspace", "Appearance"]],
    [Role.ANALYST, ["Quota", "Webhook", "Workspace", "Appearance"]],
    [Role.ADMIN, ["Tokens and roles", "Quota", "Webhook", "Workspace", "Appearance"]],
  ])("of role %s are those that the platform lets it read", async (role, tabs) => {
    const { getAllByRole } = await shown(role, "/settings/appearance");
    expect(getAllByRole("tab").map((tab) => tab.textContent)).toEqual(tabs);
  });

  test("one that is not allowed says so and asks the platform nothing", async () => {
    const { getByText, queryByRole } = await shown(Role.VIEWER, "/settings/tokens");
    expect(getByText("This is for admins")).toBeTruthy();
    expect(queryByRole("tab")).toBeNull();
    expect(gateway.asked.map(({ method }) => method)).toEqual(["tether.scheduler.v1.AccessService/WhoAmI"]);
  });
});
