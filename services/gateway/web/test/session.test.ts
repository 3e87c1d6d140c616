// @vitest-environment happy-dom
import { Code } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Role } from "../src/gen/protos/events/v1/workspace_pb";
import { AccessService } from "../src/gen/protos/scheduler/v1/access_pb";
import { RunnerService } from "../src/gen/protos/scheduler/v1/runner_pb";
import { Gateway, Refused, settle } from "./support/gateway";

const { whoAmI, signIn, signOut } = AccessService.method;
const TOKEN = "tt_secret";

let gateway: Gateway;

/** A page that was just loaded: modules remember nothing. */
async function page() {
  vi.resetModules();
  return import("../src/api/session");
}

function known(...tokens: string[]): void {
  gateway.on(whoAmI, (_, token) => {
    if (token === null || !tokens.includes(token)) throw new Refused(Code.Unauthenticated, "this token is not known");
    return { kind: "token", subjectId: `id of ${token}`, role: Role.MEMBER, nowMs: BigInt(Date.now()) };
  });
}

beforeEach(() => {
  vi.useFakeTimers();
  gateway = new Gateway();
  sessionStorage.clear();
  localStorage.clear();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("a token", () => {
  test("is kept in this tab's session storage and nowhere else, and goes into a header only", async () => {
    known(TOKEN);
    const session = await page();
    expect(await session.begin(TOKEN)).toBe(true);
    expect(session.who.value?.subjectId).toBe(`id of ${TOKEN}`);
    expect(Object.values({ ...sessionStorage })).toEqual([TOKEN]);
    expect(Object.values({ ...localStorage })).toEqual([]);
    expect(document.cookie).toBe("");
    expect(gateway.asked.every(({ url }) => !url.includes(TOKEN))).toBe(true);
    expect(location.href).not.toContain(TOKEN);
  });

  test("that is refused is forgotten, with the platform's sentence", async () => {
    known();
    sessionStorage.setItem("tether.token", TOKEN);
    const session = await page();
    expect(await session.begin(TOKEN)).toBe(false);
    expect(session.who.value).toBeNull();
    expect(session.currentToken()).toBeNull();
    expect(session.signInProblem.value).toBe("This token is not known");
    expect(sessionStorage.length).toBe(0);
  });

  test("of a runner or of the operator opens no page", async () => {
    gateway.on(whoAmI, () => ({ kind: "operator" }));
    const session = await page();
    expect(await session.begin(TOKEN)).toBe(false);
    expect(session.who.value).toBeNull();
    expect(sessionStorage.length).toBe(0);
  });

  test("is kept while the platform does not answer, and opens the page when it does again", async () => {
    known(TOKEN);
    gateway.reachable = false;
    sessionStorage.setItem("tether.token", TOKEN);
    const session = await page();
    expect(await session.begin(TOKEN)).toBe(false);
    expect(session.currentToken()).toBe(TOKEN);
    expect(sessionStorage.getItem("tether.token")).toBe(TOKEN);
    gateway.reachable = true;
    await vi.advanceTimersByTimeAsync(4_000);
    await settle();
    expect(session.who.value?.subjectId).toBe(`id of ${TOKEN}`);
    expect(session.signInProblem.value).toBe("");
  });

  test("that was not answered is tried no more when somebody signed in with another one meanwhile", async () => {
    known("tt_other");
    gateway.reachable = false;
    const session = await page();
    await session.begin(TOKEN);
    gateway.reachable = true;
    await session.begin("tt_other");
    await vi.advanceTimersByTimeAsync(10_000);
    expect(session.currentToken()).toBe("tt_other");
    expect(gateway.asked.filter(({ token }) => token === TOKEN)).toHaveLength(1);
  });

  test("that any call finds refused ends the session", async () => {
    known(TOKEN);
    gateway.on(RunnerService.method.listRunners, () => {
      throw new Refused(Code.Unauthenticated, "this token was revoked");
    });
    const session = await page();
    await session.begin(TOKEN);
    const { runners } = await import("../src/api/clients");
    await expect(runners.listRunners({})).rejects.toThrow("revoked");
    expect(session.who.value).toBeNull();
    expect(session.signInProblem.value).toBe("This token was revoked");
    expect(sessionStorage.length).toBe(0);
  });

  test("of before, refused late, does not end the session of another one", async () => {
    known(TOKEN, "tt_other");
    let refuse = () => {};
    gateway.on(RunnerService.method.listRunners, async () => {
      await new Promise<void>((resolve) => {
        refuse = resolve;
      });
      throw new Refused(Code.Unauthenticated, "this token was revoked");
    });
    const session = await page();
    await session.begin(TOKEN);
    const { runners } = await import("../src/api/clients");
    const late = runners.listRunners({}).catch(() => "refused");
    await settle();
    await session.begin("tt_other");
    refuse();
    expect(await late).toBe("refused");
    expect(session.who.value?.subjectId).toBe("id of tt_other");
  });
});

test("an answer that comes after the session has ended begins none", async () => {
  let answer: () => void = () => undefined;
  gateway.on(AccessService.method.whoAmI, async () => {
    await new Promise<void>((resolve) => {
      answer = resolve;
    });
    return { kind: "token", subjectId: "late" };
  });
  const session = await import("../src/api/session");
  const beginning = session.begin("tt_late");
  await vi.waitFor(() => expect(gateway.asked).toHaveLength(1));
  session.end("signed out");
  answer();
  expect(await beginning).toBe(false);
  expect(session.who.value).toBeNull();
  expect(sessionStorage.getItem("tether.token")).toBeNull();
});

describe("a code", () => {
  test("leaves the address before anything is asked, and is changed for a token", async () => {
    known("tt_of_code");
    const hrefs: string[] = [];
    gateway.on(signIn, ({ code }) => {
      hrefs.push(location.href);
      expect(code).toBe("single-use");
      return { secret: "tt_of_code" };
    });
    location.hash = "#code=single-use";
    vi.resetModules();
    await import("../src/main");
    expect(location.hash).toBe("");
    await settle();
    const session = await import("../src/api/session");
    expect(session.who.value?.subjectId).toBe("id of tt_of_code");
    expect(hrefs).toHaveLength(1);
    expect(hrefs[0]).not.toContain("single-use");
    expect(gateway.asked.find(({ method }) => method.endsWith("/SignIn"))?.token).toBeNull();
  });

  test("that was used says so on the sign-in page", async () => {
    gateway.on(signIn, () => {
      throw new Refused(Code.Unauthenticated, "this code was used already");
    });
    const session = await page();
    expect(await session.beginWithCode("old")).toBe(false);
    expect(session.who.value).toBeNull();
    expect(session.signInProblem.value).toBe("This code was used already");
  });
});

describe("roles", () => {
  test.each([
    [Role.VIEWER, false, false, false],
    [Role.ANALYST, false, false, true],
    [Role.MEMBER, true, false, false],
    [Role.ADMIN, true, true, true],
    [Role.UNSPECIFIED, false, false, false],
  ])("role %s may write %s, administer %s, read the log %s", async (role, write, admin, log) => {
    gateway.on(whoAmI, () => ({ kind: "token", role }));
    const session = await page();
    await session.begin(TOKEN);
    expect([session.mayWrite.value, session.mayAdmin.value, session.mayReadLog.value]).toEqual([write, admin, log]);
  });
});

test("signing out forgets the token even where the platform refuses to revoke it", async () => {
  known(TOKEN);
  gateway.on(signOut, () => {
    throw new Refused(Code.FailedPrecondition, "this token was not made by SignIn");
  });
  const session = await page();
  await session.begin(TOKEN);
  await session.signOut();
  expect(session.who.value).toBeNull();
  expect(session.signInProblem.value).toBe("");
  expect(sessionStorage.length).toBe(0);
});
