/** @jsxImportSource preact */
import { render } from "preact";
import { useEffect } from "preact/hooks";
import { LocationProvider } from "preact-iso";
import { begin, currentToken, who } from "./src/api/session";
import { call, jobs } from "./src/api/clients";
import { startStores, newest } from "./src/live/stores";
import { shareSession, startStreams } from "./src/live/streams";
import { Shell } from "./src/shell";
import "./src/styles.css";
import { applyTheme } from "./src/theme";
import { startClock } from "./src/time";
import { useAsked } from "./src/ui/use";
import { Toasts } from "./src/ui/toasts";
import { Head } from "./src/ui/layout";
import Preview from "./src/pages/trainings/preview";
import Matrix from "./src/pages/trainings/matrix";
import Advice from "./src/pages/trainings/advice";
import Checkpoints from "./src/pages/trainings/checkpoints";
applyTheme();
startClock();
startStreams();
import { MatrixCanvas } from "./src/pages/trainings/matrix-canvas";
import { Confusions, ClassScores } from "./src/pages/trainings/matrix-scores";
import { useState, useMemo } from "preact/hooks";
import { toBinary, fromBinary, create } from "@bufbuild/protobuf";
import { ConfusionMatrixSchema } from "./src/gen/protos/training/v1/training_pb";
import { fromProto } from "./src/pages/trainings/matrix-math";
function Big() {
  const [told, tell] = useState("");
  const m = useMemo(() => {
    const n = Number(q.get("n") ?? 1000);
    const counts = new Array(n * n).fill(0n).map((_, i) => (Math.floor(i / n) === i % n ? 900n : Math.random() < 0.05 ? BigInt(Math.floor(Math.random() * 40)) : 0n));
    const bytes = toBinary(ConfusionMatrixSchema, create(ConfusionMatrixSchema, { classes: Array.from({ length: n }, (_, k) => `class number ${k}`), counts }));
    const t0 = performance.now();
    const made = fromBinary(ConfusionMatrixSchema, bytes);
    const t1 = performance.now();
    const m = fromProto(made);
    console.log("decode", t1 - t0, "fromProto", performance.now() - t1, "bytes", bytes.length);
    return m;
  }, []);
  const [zero] = useState(() => performance.now()); console.log("render at", zero);
  useEffect(() => { new PerformanceObserver((l) => l.getEntries().forEach((e) => console.log("longtask", e.duration, e.startTime))).observe({ type: "longtask", buffered: true }); }, []);
  return <><Head title="big" /><MatrixCanvas matrix={m} asShares={false} label="big" onTell={(r, c) => tell(`${r} ${c}`)} /><p>{told}</p><Confusions matrix={m} task={1} /><ClassScores matrix={m} task={1} /></>;
}
const q = new URLSearchParams(location.search);
const P = { preview: Preview, matrix: Matrix, advice: Advice, checkpoints: Checkpoints }[q.get("what") ?? "preview"]!;
function Page() {
  const asked = useAsked((signal) => jobs.getJob({ jobId: q.get("job") ?? "" }, call(signal)), []);
  useEffect(() => startStores(), []);
  const job = asked.value?.job;
  return job ? <><Head title={job.name} /><P job={newest(job)} /></> : <p>{asked.problem}</p>;
}
await begin(currentToken() ?? "");
shareSession(currentToken());
render(who.value ? <LocationProvider><Shell>{q.get("what") === "big" ? <Big /> : <Page />}</Shell><Toasts /></LocationProvider> : <p>no</p>, document.getElementById("page")!);
