import { useState } from "preact/hooks";
import { access, call } from "../../api/clients";
import { refusedField } from "../../api/details";
import { sentence } from "../../api/errors";
import { moment } from "../../format";
import { Role } from "../../gen/protos/events/v1/workspace_pb";
import type { CreateTokenResponse } from "../../gen/protos/scheduler/v1/access_pb";
import { platformNow } from "../../time";
import { Button } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { RadioField, SelectField, TextField } from "../../ui/fields";
import { Note } from "../../ui/note";
import { useRequestId } from "../../ui/use";
import { fromLocalInput, localInput } from "../usage/month";
import { ROLES, roleWords } from "./roles";
import { Secret } from "./secret";

const DAY_MS = 86_400_000;
const SPANS = [
  { value: "7", label: "In a week" },
  { value: "30", label: "In 30 days" },
  { value: "90", label: "In 90 days" },
  { value: "365", label: "In a year" },
  { value: "", label: "Never" },
  { value: "moment", label: "At a moment of your choice" },
];

/** Name, role and expiry → a secret, shown once. */
export function CreateToken({ onMade, onClose }: { onMade: () => void; onClose: () => void }) {
  const [name, setName] = useState("");
  const [role, setRole] = useState(String(Role.MEMBER));
  const [span, setSpan] = useState("90");
  const [until, setUntil] = useState("");
  const [busy, setBusy] = useState(false);
  const [nameProblem, setNameProblem] = useState("");
  const [problem, setProblem] = useState("");
  const [made, setMade] = useState<CreateTokenResponse>();
  // The moment is fixed when it is chosen: the same request again is the same to the millisecond.
  const [chosenMs, setChosenMs] = useState(platformNow);
  const requestId = useRequestId(JSON.stringify([name, role, span, until, chosenMs]));
  const expiresAtMs =
    span === "" ? 0 : span === "moment" ? fromLocalInput(until) : Math.round(chosenMs) + Number(span) * DAY_MS;
  const submit = async () => {
    setNameProblem(name.trim() === "" ? "Say who or what will use it." : "");
    if (name.trim() === "") return;
    setProblem(span === "moment" && expiresAtMs === 0 ? "Choose the moment that it expires at." : "");
    if (span === "moment" && expiresAtMs === 0) return;
    setBusy(true);
    try {
      const request = { requestId, name: name.trim(), role: Number(role), expiresAtMs: BigInt(expiresAtMs) };
      setMade(await access.createToken(request, call()));
      onMade();
    } catch (error) {
      const refused = refusedField(error);
      if (refused?.field === "name") setNameProblem(refused.problem);
      else setProblem(refused?.problem ?? sentence(error));
    }
    setBusy(false);
  };
  if (made !== undefined)
    return (
      <Secret
        title={`Token ${name.trim()}`}
        what="the token"
        secret={made.secret}
        lost={
          made.secretWithheld
            ? "The token exists, but the answer with its secret got lost, and a secret is never shown twice: revoke it and make another."
            : undefined
        }
        onClose={onClose}
      >
        <p class="quiet">
          Role {roleWords(Number(role)).name},{" "}
          {expiresAtMs > 0 ? `refused from ${moment(expiresAtMs)}` : "never expires"}. On this page it signs a person
          in; for the command line: <code>export TETHER_TOKEN=…</code>
        </p>
      </Secret>
    );
  return (
    <Dialog
      title="Make a token"
      onClose={onClose}
      onSubmit={() => void submit()}
      actions={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" submit busy={busy}>
            Make the token
          </Button>
        </>
      }
    >
      <TextField
        label="Name"
        value={name}
        onInput={setName}
        problem={nameProblem}
        autoFocus
        autoComplete="off"
        placeholder="for example ci, or a person's name"
        hint="Kept outside of the event log, where it can be erased."
      />
      <RadioField
        label="Role"
        value={role}
        onChange={setRole}
        options={ROLES.map((one) => ({ value: String(one.role), label: one.name, hint: one.may }))}
      />
      <SelectField
        label="Expires"
        value={span}
        options={SPANS}
        onChange={(value) => {
          setSpan(value);
          setChosenMs(platformNow());
        }}
        hint={span !== "" && span !== "moment" ? moment(expiresAtMs) : undefined}
      />
      {span === "moment" && (
        <TextField
          label="Expires at"
          type="datetime-local"
          value={until}
          onInput={setUntil}
          hint={`Your local time; now it is ${localInput(platformNow()).replace("T", " ")}.`}
        />
      )}
      {problem && <Note tone="bad">{problem}</Note>}
    </Dialog>
  );
}
