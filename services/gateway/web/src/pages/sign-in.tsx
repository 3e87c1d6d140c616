import { useEffect, useState } from "preact/hooks";
import { begin, signInProblem } from "../api/session";
import { Button } from "../ui/button";
import { TextField } from "../ui/fields";
import { Note } from "../ui/note";
import css from "./sign-in.module.css";

/** Asks for a token; told once and kept in this tab only. */
export function SignIn() {
  const [token, setToken] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    document.title = "Sign in · Tether";
  }, []);
  const submit = async () => {
    if (token.trim() === "") {
      signInProblem.value = "Paste a token first.";
      return;
    }
    setBusy(true);
    if (!(await begin(token.trim()))) setBusy(false);
  };
  return (
    <main class={css.place}>
      <form
        class={css.card}
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <div class={css.brand}>
          <img src={new URL("../icon.svg", import.meta.url).href} alt="" />
          <h1>Sign in to Tether</h1>
        </div>
        {signInProblem.value && <Note tone="bad">{signInProblem.value}</Note>}
        <TextField
          label="Token"
          type="password"
          autoComplete="off"
          autoFocus
          value={token}
          onInput={setToken}
          hint={
            <>
              On the platform's machine <code>tether open</code> makes an address that signs you in. Otherwise ask an
              admin for a token.
            </>
          }
        />
        <Button kind="primary" submit busy={busy}>
          Sign in
        </Button>
      </form>
    </main>
  );
}
