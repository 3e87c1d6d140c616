import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { StoredLogLineSchema } from "../src/gen/protos/metrics/v1/metrics_pb";
import { marked, pieces, plain } from "../src/pages/trainings/logs-ansi";
import { LogLines, rowsOf } from "../src/pages/trainings/logs-lines";

const E = "\u001b";

describe("terminal colours", () => {
  test.each([
    ["no colours", "plain text", [{ text: "plain text", look: {} }]],
    [
      "a colour and its end",
      `${E}[31mred${E}[0m on`,
      [
        { text: "red", look: { colour: 1 } },
        { text: " on", look: {} },
      ],
    ],
    [
      "an empty reset",
      `${E}[1;32mgo${E}[m.`,
      [
        { text: "go", look: { bold: true, colour: 2 } },
        { text: ".", look: {} },
      ],
    ],
    ["a bright colour", `${E}[91mx`, [{ text: "x", look: { colour: 9 } }]],
    ["one of 256", `${E}[38;5;196mx`, [{ text: "x", look: { colour: "rgb(255 0 0)" } }]],
    [
      "one of 16 million, and bold behind it",
      `${E}[38;2;1;2;300;1mx`,
      [{ text: "x", look: { colour: "rgb(1 2 255)", bold: true } }],
    ],
    ["a background", `${E}[44mx`, [{ text: "x", look: { background: 4 } }]],
  ])("%s", (_, line, expected) => expect(pieces(line)).toEqual(expected));

  test("titles, links and movements of the cursor are left out", () => {
    const line = `${E}]0;title\u0007a${E}[2Kb${E}]8;;http://x${E}\\c${E}(Bd`;
    expect(plain(line)).toBe("abcd");
    expect(
      pieces(line)
        .map((piece) => piece.text)
        .join(""),
    ).toBe("abcd");
  });
  test("an escape that breaks off harms nothing", () => {
    expect(plain(`a${E}[`)).toContain("a");
    expect(pieces(`${E}[38;5m`)).toEqual([]);
  });
  test("of a line that overwrites itself the last state is shown", () => {
    expect(plain("10 %\r50 %\r100 %")).toBe("100 %");
    expect(plain("done\r")).toBe("done");
  });
});

describe("what was searched for", () => {
  const found = (line: string, search: string) =>
    marked(pieces(line), search)
      .filter((piece) => piece.found)
      .map((piece) => piece.text);
  test("is marked in whatever case, as often as it is there", () => {
    expect(found("Error: error", "ERROR")).toEqual(["Error", "error"]);
  });
  test("is found across colours, and the text stays what it was", () => {
    const line = `out ${E}[31mof mem${E}[0mory now`;
    expect(found(line, "of memory")).toEqual(["of mem", "ory"]);
    expect(
      marked(pieces(line), "of memory")
        .map((piece) => piece.text)
        .join(""),
    ).toBe("out of memory now");
  });
  test("nothing is marked without a search", () => {
    expect(marked(pieces("abc"), "")).toEqual(pieces("abc"));
  });
});

describe("lines of a log", () => {
  const line = (n: number, attemptId = "at_1", sequence = n) =>
    create(StoredLogLineSchema, { line: BigInt(n), attemptId, sequence: BigInt(sequence), text: `line ${n}` });
  const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => line(from + n));
  const numbers = (log: LogLines) => log.lines.map((one) => Number(one.line));

  test("a stream that begins anew tells nothing twice and loses nothing that was read before it", () => {
    const log = new LogLines();
    log.append(range(5, 8), true);
    log.prepend(range(1, 4));
    log.append(range(7, 10), true);
    expect(numbers(log)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });
  test("where a new beginning leaves a hole, what lies before it is forgotten", () => {
    const log = new LogLines();
    log.append(range(1, 3), true);
    log.append(range(8, 9), true);
    expect(numbers(log)).toEqual([8, 9]);
  });
  test("earlier lines come once", () => {
    const log = new LogLines();
    log.append(range(5, 6), true);
    expect(log.prepend(range(3, 6))).toBe(true);
    expect(log.prepend(range(3, 4))).toBe(false);
    expect(numbers(log)).toEqual([3, 4, 5, 6]);
  });
  test("a log without end keeps its newest lines", () => {
    const log = new LogLines(10);
    log.append(range(1, 10), true);
    log.append(range(11, 15), false);
    expect(numbers(log)).toEqual([6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
  });
  test("attempts are told apart where one ends", () => {
    const lines = [line(1), line(2), line(3, "at_2", 1), line(4, "at_2", 2)];
    const rows = rowsOf(lines, (id) => ["at_1", "at_2"].indexOf(id) + 1);
    expect(rows.map((row) => (row.kind === "attempt" ? `attempt ${row.number}` : row.key))).toEqual([
      "1",
      "2",
      "attempt 2",
      "3",
      "4",
    ]);
    expect(new Set(rows.map((row) => row.key)).size).toBe(rows.length);
  });
});
