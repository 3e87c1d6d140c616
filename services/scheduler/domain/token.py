"""Tokens of a workspace: those of people and programs, codes that open the page once, and what the page gets for one.

A code and a sign-in belong to a person: to the token that made the code, or to the one that stands behind that token
where it is a sign-in itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from protos.events.v1 import workspace_pb2 as ev
from services.scheduler.domain.kinds import Envelope, RoleValue, TokenKindValue

TOKEN = ev.TokenKind.TOKEN_KIND_UNSPECIFIED
CODE, SIGN_IN = ev.TokenKind.TOKEN_KIND_SIGN_IN_CODE, ev.TokenKind.TOKEN_KIND_SIGN_IN

# Of living ones, so that a program that makes codes without end harms nobody but itself.
MAX_TOKENS, MAX_CODES, MAX_SIGN_INS = 1000, 20, 100


@dataclass(frozen=True, slots=True)
class Token:
    """Its name is kept apart, where it can be erased; an old event's `name` is passed over."""

    token_id: str
    role: RoleValue
    created_at_ms: int
    # Refused from then on, Unix milliseconds; zero: never.
    expires_at_ms: int
    revoked: bool = False
    kind: TokenKindValue = TOKEN
    # Of codes and sign-ins: the token that made the code, and the person's token behind it; empty for other tokens.
    made_by: str = ""
    person: str = ""

    def living(self, now_ms: int) -> bool:
        return not self.revoked and not (self.expires_at_ms and self.expires_at_ms <= now_ms)

    @property
    def owner(self) -> str:
        """The token whose name it bears."""
        return self.person or self.token_id


Tokens = Mapping[str, Token]


def created(tokens: Tokens, event: ev.TokenCreated, at: Envelope) -> Tokens:
    """With one token more. Codes and sign-ins that have expired are dropped: nothing asks for them any more."""
    kept = {one.token_id: one for one in tokens.values() if one.kind == TOKEN or one.living(at.at_ms)}
    token = Token(event.token_id, event.role, at.at_ms, event.expires_at_ms, kind=event.kind)
    if event.kind != TOKEN:
        maker = at.actor.partition(":")[2]
        behind = tokens.get(maker)
        token = replace(token, made_by=maker, person=behind.owner if behind is not None else maker)
    return {**kept, token.token_id: token}


def revoked(tokens: Tokens, token_id: str) -> Tokens:
    """Without what it opened. A code or a sign-in leaves nothing behind."""
    token = tokens.get(token_id)
    if token is None or token.kind != TOKEN:
        # A sign-in may have expired, and been dropped, before its revocation was appended.
        return {id_: one for id_, one in tokens.items() if id_ != token_id}
    return {**tokens, token_id: replace(token, revoked=True)}


def ends_with(tokens: Tokens, token_id: str, now_ms: int) -> list[str]:
    """What is revoked together with a living token: the codes and sign-ins that were made with it, those that were made
    with these, and so on; with a person's token all of the person's."""
    ended = {token_id}
    # Whoever made a token is older and stands before it.
    for one in tokens.values():
        if one.made_by in ended or one.person == token_id:
            ended.add(one.token_id)
    return [id_ for id_, one in tokens.items() if id_ != token_id and id_ in ended and one.living(now_ms)]


def counted(tokens: Tokens, kind: TokenKindValue, now_ms: int, person: str = "") -> int:
    """Living tokens of a kind, all or those of a person."""
    return sum(one.kind == kind and one.living(now_ms) and person in ("", one.person) for one in tokens.values())


def opens(tokens: Tokens, code_id: str, now_ms: int) -> tuple[Token, Token] | None:
    """The code and the token that made it, where both may still be used; None: the code opens nothing."""
    code = tokens.get(code_id)
    maker = tokens.get(code.made_by) if code is not None else None
    if code is None or maker is None or code.kind != CODE or not (code.living(now_ms) and maker.living(now_ms)):
        return None
    return code, maker


def until(now_ms: int, lifetime_ms: int, maker: Token) -> int:
    """When something that a token makes expires: after its lifetime, and never after its maker."""
    return min(now_ms + lifetime_ms, maker.expires_at_ms or now_ms + lifetime_ms)
