import { computed } from "@preact/signals";
import { useMemo, useState } from "preact/hooks";
import { access, call, newRequestId } from "../../api/clients";
import { who } from "../../api/session";
import { moment } from "../../format";
import type { Token } from "../../gen/protos/scheduler/v1/access_pb";
import { now } from "../../time";
import { Ago } from "../../ui/ago";
import { Button } from "../../ui/button";
import { Confirm } from "../../ui/dialog";
import { CheckField } from "../../ui/fields";
import { Card, Table } from "../../ui/layout";
import { Badge, Failed, Loading, StateBadge } from "../../ui/note";
import { say } from "../../ui/toasts";
import { useAsked } from "../../ui/use";
import { CreateToken } from "./create-token";
import { isExpired, ordered, ROLES, roleWords, tokenKind, tokenState } from "./roles";
import css from "./settings.module.css";

/** Who may do what: tokens, and who is signed in on the page. */
export function Tokens() {
  const [creating, setCreating] = useState(false);
  const [revoking, setRevoking] = useState<Token>();
  const [erasing, setErasing] = useState<Token>();
  const [all, setAll] = useState(false);
  const asked = useAsked((signal) => access.listTokens({}, call(signal)), []);
  const listed = asked.value?.tokens;
  // Time changes nothing here but what has expired: it is put in order anew when one more has.
  const expired = useMemo(() => computed(() => listed?.filter((one) => isExpired(one, now.value)).length), [listed]);
  const at = expired.value === undefined ? 0 : now.peek();
  const tokens = listed && ordered(listed, at);
  const over = (token: Token) => token.revoked || isExpired(token, at);
  const shown = tokens?.filter((token) => all || !over(token));
  return (
    <div class={css.stack}>
      <Card
        title="Tokens"
        flush
        actions={
          <Button kind="primary" onClick={() => setCreating(true)}>
            Make a token
          </Button>
        }
      >
        {asked.problem && (
          <div class={css.pad}>
            <Failed retry={asked.reload}>{asked.problem}</Failed>
          </div>
        )}
        {shown === undefined ? (
          !asked.problem && <Loading what="Loading the tokens" />
        ) : (
          <Table
            label="Tokens"
            head={
              <>
                <th scope="col">Name</th>
                <th scope="col">Kind</th>
                <th scope="col">Role</th>
                <th scope="col">State</th>
                <th scope="col">Made</th>
                <th scope="col">
                  <span class="visually-hidden">Actions</span>
                </th>
              </>
            }
          >
            {shown.map((token) => (
              <Row
                key={token.tokenId}
                token={token}
                at={at}
                onRevoke={() => setRevoking(token)}
                onErase={() => setErasing(token)}
              />
            ))}
          </Table>
        )}
        {tokens?.some(over) && (
          <div class={css.pad}>
            <CheckField checked={all} onChange={setAll}>
              Show those that are revoked or expired too ({tokens.filter(over).length})
            </CheckField>
          </div>
        )}
      </Card>
      <Card title="What the roles may do">
        <dl class={css.roles}>
          {ROLES.map(({ name, may }) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd class="quiet">{may}</dd>
            </div>
          ))}
        </dl>
      </Card>
      {creating && <CreateToken onMade={asked.reload} onClose={() => setCreating(false)} />}
      {revoking && <Revoke token={revoking} onDone={asked.reload} onClose={() => setRevoking(undefined)} />}
      {erasing && <EraseName token={erasing} onDone={asked.reload} onClose={() => setErasing(undefined)} />}
    </div>
  );
}

interface RowProps {
  token: Token;
  /** The moment that the table tells of. */
  at: number;
  onRevoke: () => void;
  onErase: () => void;
}

function Row({ token, at, onRevoke, onErase }: RowProps) {
  const own = isOwn(token);
  const until = Number(token.expiresAtMs);
  return (
    <tr>
      <td class={`break ${css.who}`}>
        {token.name ? <b>{token.name}</b> : <span class="quiet">name erased</span>}{" "}
        {own && <Badge tone="busy">you</Badge>}
        <div class="quiet">
          <code>{token.tokenId}</code>
        </div>
      </td>
      <td>{tokenKind(token)}</td>
      <td>{roleWords(token.role).name}</td>
      <td>
        <StateBadge state={tokenState(token, at)} />
        {!token.revoked && until > 0 && (
          <div class={`quiet ${css.when}`}>
            {isExpired(token, at) ? "since" : "until"} {moment(until)}
          </div>
        )}
      </td>
      <td class={css.when}>
        <Ago ms={Number(token.createdAtMs)} />
      </td>
      <td>
        <div class={css.actions}>
          {!token.revoked && (
            <Button small kind="danger" onClick={onRevoke}>
              Revoke<span class="visually-hidden"> {token.name || token.tokenId}</span>
            </Button>
          )}
          {token.name !== "" && (
            <Button small onClick={onErase}>
              Erase name<span class="visually-hidden"> {token.name}</span>
            </Button>
          )}
        </div>
      </td>
    </tr>
  );
}

interface AskProps {
  token: Token;
  onDone: () => void;
  onClose: () => void;
}

function Revoke({ token, onDone, onClose }: AskProps) {
  const [requestId] = useState(newRequestId);
  const action = async () => {
    await access.revokeToken({ requestId, tokenId: token.tokenId }, call());
    say(`${token.name || token.tokenId} is refused from now on.`);
    onDone();
  };
  return (
    <Confirm title={`Revoke ${token.name || token.tokenId}?`} verb="Revoke" danger action={action} onClose={onClose}>
      {isOwn(token) && (
        <p>
          <strong>This is your own token: you will be signed out here and now.</strong>
        </p>
      )}
      It is refused from now on, wherever it is used, on open connections too; with it go the sign-ins that were made
      with it. Trainings that it submitted run on. There is no way back.
    </Confirm>
  );
}

function EraseName({ token, onDone, onClose }: AskProps) {
  const action = async () => {
    await access.eraseTokenName({ tokenId: token.tokenId }, call());
    say("The name is erased.");
    onDone();
  };
  return (
    <Confirm title={`Erase the name “${token.name}”?`} verb="Erase" danger action={action} onClose={onClose}>
      The token works on and is known by its id, <code>{token.tokenId}</code>. Backups made before still hold the name.
    </Confirm>
  );
}

function isOwn(token: Token): boolean {
  return token.tokenId === who.value?.subjectId;
}
