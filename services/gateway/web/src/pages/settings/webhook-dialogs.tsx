import { useState } from "preact/hooks";
import { call, webhooks } from "../../api/clients";
import { refusedField } from "../../api/details";
import { sentence } from "../../api/errors";
import { integer } from "../../format";
import type { SetWebhookResponse, Webhook, WebhookKind } from "../../gen/protos/eventlog/v1/eventlog_pb";
import { Button } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { CheckField, NumberField, TextField } from "../../ui/fields";
import { Note } from "../../ui/note";
import { say } from "../../ui/toasts";
import { useRequestId } from "../../ui/use";
import { WEBHOOK_KINDS } from "./roles";
import { Secret } from "./secret";
import css from "./settings.module.css";

/** Address and kinds → a signing secret, shown once where it is new. */
export function SetWebhook({ hook, onClose }: { hook: Webhook | undefined; onClose: () => void }) {
  const [known] = useState(hook);
  const [url, setUrl] = useState(known?.url ?? "");
  const [kinds, setKinds] = useState<ReadonlySet<WebhookKind>>(
    new Set(known?.kinds.length ? known.kinds : WEBHOOK_KINDS.map(({ kind }) => kind)),
  );
  const [newSecret, setNewSecret] = useState(false);
  const [busy, setBusy] = useState(false);
  const [urlProblem, setUrlProblem] = useState("");
  const [problem, setProblem] = useState("");
  const [made, setMade] = useState<SetWebhookResponse>();
  // No kind is every kind, of a newer platform's too.
  const wanted = kinds.size === WEBHOOK_KINDS.length ? [] : [...kinds].sort((a, b) => a - b);
  const requestId = useRequestId(JSON.stringify([url, wanted, newSecret]));
  const submit = async () => {
    setUrlProblem(url.trim() === "" ? "Write the address that is told, for example https://host/path." : "");
    setProblem(kinds.size === 0 ? "Choose at least one kind, or nothing would ever be told." : "");
    if (url.trim() === "" || kinds.size === 0) return;
    setBusy(true);
    try {
      const answer = await webhooks.setWebhook({ requestId, url: url.trim(), kinds: wanted, newSecret }, call());
      if (answer.secret || answer.secretWithheld) setMade(answer);
      else {
        say("The webhook is changed.");
        onClose();
      }
    } catch (error) {
      const refused = refusedField(error);
      if (refused?.field === "url") setUrlProblem(refused.problem);
      else setProblem(refused?.problem ?? sentence(error));
    }
    setBusy(false);
  };
  if (made !== undefined)
    return (
      <Secret
        title="The webhook's signing secret"
        what="the secret"
        secret={made.secret}
        lost={
          made.secretWithheld
            ? "The webhook is set, but the answer with its secret got lost, and a secret is never shown twice: change the webhook and make a new one."
            : undefined
        }
        onClose={onClose}
      >
        <p class="quiet">
          Each request is signed with it (HMAC-SHA256). Events after #{integer(made.webhook?.deliveredPosition ?? 0n)}{" "}
          are told.
        </p>
      </Secret>
    );
  return (
    <Dialog
      title={known === undefined ? "Set a webhook" : "Change the webhook"}
      onClose={onClose}
      onSubmit={() => void submit()}
      actions={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" submit busy={busy}>
            {known === undefined ? "Set the webhook" : "Change"}
          </Button>
        </>
      }
    >
      <TextField
        label="Address"
        type="url"
        value={url}
        onInput={setUrl}
        problem={urlProblem}
        autoFocus
        placeholder="https://host/path"
        hint="Every event is a POST to it, in order, tried again until it answers with 2xx."
      />
      <fieldset class={css.kinds}>
        <legend>Tells of</legend>
        {WEBHOOK_KINDS.map(({ kind, label, hint }) => (
          <CheckField
            key={kind}
            checked={kinds.has(kind)}
            hint={hint}
            onChange={(on) => setKinds(new Set(on ? [...kinds, kind] : [...kinds].filter((one) => one !== kind)))}
          >
            {label}
          </CheckField>
        ))}
      </fieldset>
      {known !== undefined && (
        <CheckField checked={newSecret} onChange={setNewSecret} hint="The old one ends at once.">
          Make a new signing secret
        </CheckField>
      )}
      {problem && <Note tone="bad">{problem}</Note>}
    </Dialog>
  );
}

/** Delivers again from a position of the log on. */
export function ReplayWebhook({ delivered, onClose }: { delivered: bigint; onClose: () => void }) {
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const requestId = useRequestId(text);
  const submit = async () => {
    if (!/^\d{1,18}$/.test(text.trim())) {
      setProblem("Write a position of the log, for example 1200; the event log shows them.");
      return;
    }
    setBusy(true);
    setProblem("");
    try {
      await webhooks.replayWebhook({ requestId, fromPosition: BigInt(text.trim()) }, call());
      say(`Everything from #${integer(BigInt(text.trim()))} on is delivered again.`);
      onClose();
    } catch (error) {
      setProblem(refusedField(error)?.problem ?? sentence(error));
      setBusy(false);
    }
  };
  return (
    <Dialog
      title="Deliver again"
      width={480}
      onClose={onClose}
      onSubmit={() => void submit()}
      actions={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" submit busy={busy}>
            Deliver again
          </Button>
        </>
      }
    >
      <NumberField
        label="From position"
        value={text}
        onInput={setText}
        min={1}
        problem={problem}
        hint={`Everything from there on is told once more, in order. Delivered so far: up to #${integer(delivered)}.`}
      />
    </Dialog>
  );
}
