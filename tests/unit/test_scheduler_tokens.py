"""Tokens of a workspace, and the directory that lets them in: what a code and a sign-in may do, and for how long."""

from google.protobuf.message import Message

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import workspace_pb2 as ev
from services.eventlog.catalogue import type_url
from services.ids import sha256
from services.rpc.credentials import Directory
from services.scheduler.domain import workspace as workspaces
from services.scheduler.domain.kinds import Envelope
from services.scheduler.domain.token import CODE, SIGN_IN, TOKEN, Token, counted, ends_with, opens, until
from services.scheduler.domain.workspace import Workspace
from services.scheduler.names import name_of

T0 = 1_790_000_000_000
MINUTE = 60_000
Said = tuple[Message, str, int]


def made(
    token_id: str, kind: ev.TokenKind.ValueType = TOKEN, by: str = "tok_admin", at: int = T0, expires: int = 0
) -> Said:
    event = ev.TokenCreated(
        token_id=token_id,
        role=ev.Role.ROLE_MEMBER,
        token_sha256=sha256(f"secret of {token_id}"),
        expires_at_ms=expires,
        kind=kind,
    )
    return event, f"token:{by}", at


def gone(token_id: str, at: int = T0) -> Said:
    return ev.TokenRevoked(token_id=token_id), "token:tok_admin", at


PERSON = made("tok_ann")
CODE_OF_ANN = made("tok_code", CODE, "tok_ann", expires=T0 + 10 * MINUTE)
ANN_ON_THE_PAGE = made("tok_page", SIGN_IN, "tok_ann", expires=T0 + 700 * MINUTE)


def workspace(*said: Said) -> Workspace:
    state = workspaces.evolve(None, ev.WorkspaceCreated(name="w"), Envelope("ws_1", "ws_1", 1, T0, "operator", 1))
    for version, (event, actor, at) in enumerate(said, 2):
        state = workspaces.evolve(state, event, Envelope("ws_1", "ws_1", version, at, actor, version))
    return state


def directory(*said: Said) -> Directory:
    found = Directory(None)
    found.apply([record(position, one) for position, one in enumerate(said, 2)])
    return found


def record(position: int, said: Said) -> EventRecord:
    event, actor, at = said
    kept = EventRecord(
        position=position,
        workspace_id="ws_1",
        stream_kind="workspace",
        stream_id="ws_1",
        type=event.DESCRIPTOR.name,
        recorded_at_us=at * 1000,
        actor=actor,
    )
    kept.payload.type_url, kept.payload.value = type_url(kept.type), event.SerializeToString()
    return kept


def test_a_code_opens_while_it_and_its_maker_live() -> None:
    tokens = workspace(PERSON, CODE_OF_ANN).tokens
    assert opens(tokens, "tok_code", T0) == (tokens["tok_code"], tokens["tok_ann"])
    assert opens(tokens, "tok_code", T0 + 10 * MINUTE) is None, "expired"
    assert opens(workspace(PERSON, CODE_OF_ANN, gone("tok_code")).tokens, "tok_code", T0) is None, "used"
    assert opens(workspace(PERSON, CODE_OF_ANN, gone("tok_ann")).tokens, "tok_code", T0) is None, "maker revoked"
    short = made("tok_ann", expires=T0 + MINUTE)
    assert opens(workspace(short, CODE_OF_ANN).tokens, "tok_code", T0 + MINUTE) is None, "maker expired"
    page = workspace(PERSON, ANN_ON_THE_PAGE, made("tok_2", CODE, "tok_page", expires=T0 + MINUTE), gone("tok_page"))
    assert opens(page.tokens, "tok_2", T0) is None, "the sign-in that made it is over"


def test_other_tokens_open_nothing() -> None:
    tokens = workspace(PERSON, ANN_ON_THE_PAGE).tokens
    assert [opens(tokens, one, T0) for one in ("tok_ann", "tok_page", "tok_none")] == [None, None, None]


def test_nothing_outlives_the_token_that_makes_it() -> None:
    forever, short = (Token("a", ev.Role.ROLE_ADMIN, T0, end) for end in (0, T0 + MINUTE))
    assert until(T0, 10 * MINUTE, forever) == T0 + 10 * MINUTE
    assert until(T0, 10 * MINUTE, short) == T0 + MINUTE
    assert until(T0, 1000, short) == T0 + 1000


def test_used_and_expired_codes_and_sign_ins_leave_nothing_in_the_workspace() -> None:
    said = [PERSON]
    for hour in range(100):
        at = T0 + hour * 60 * MINUTE
        said += [
            made(f"tok_c{hour}", CODE, "tok_ann", at, at + 10 * MINUTE),
            gone(f"tok_c{hour}", at),
            made(f"tok_s{hour}", SIGN_IN, "tok_ann", at, at + 120 * MINUTE),
            made(f"tok_never_used_{hour}", CODE, "tok_ann", at, at + 10 * MINUTE),
        ]
    assert sorted(workspace(*said).tokens) == ["tok_ann", "tok_never_used_99", "tok_s98", "tok_s99"]


def test_a_revoked_token_of_a_person_stays_and_a_sign_in_does_not() -> None:
    tokens = workspace(PERSON, ANN_ON_THE_PAGE, gone("tok_ann"), gone("tok_page")).tokens
    assert [(one.token_id, one.revoked) for one in tokens.values()] == [("tok_ann", True)]


def test_the_revocation_of_what_was_dropped_meanwhile_changes_nothing() -> None:
    tokens = workspace(PERSON, gone("tok_page")).tokens
    assert list(tokens) == ["tok_ann"]


def test_only_living_tokens_are_counted() -> None:
    tokens = workspace(PERSON, made("tok_old", expires=T0 + 1), made("tok_off"), gone("tok_off"), CODE_OF_ANN).tokens
    assert counted(tokens, TOKEN, T0 + 1) == 1
    assert [counted(tokens, CODE, T0, person) for person in ("tok_ann", "tok_old", "")] == [1, 0, 1]
    assert counted(tokens, CODE, T0 + 10 * MINUTE) == 0


def test_a_sign_in_through_a_sign_in_is_of_the_same_person_and_goes_with_his_token() -> None:
    again = made("tok_again", SIGN_IN, "tok_page", expires=T0 + MINUTE)
    tokens = workspace(PERSON, made("tok_bob"), ANN_ON_THE_PAGE, again).tokens
    assert {tokens[one].person for one in ("tok_page", "tok_again")} == {"tok_ann"}
    assert ends_with(tokens, "tok_ann", T0) == ["tok_page", "tok_again"]
    assert ends_with(tokens, "tok_ann", T0 + MINUTE) == ["tok_page"], "what has expired needs no revocation"
    assert ends_with(tokens, "tok_bob", T0) == []


def test_whoever_signed_in_through_a_sign_in_is_out_with_it() -> None:
    said = [
        PERSON,
        ANN_ON_THE_PAGE,
        made("tok_beside", SIGN_IN, "tok_ann", expires=T0 + 700 * MINUTE),
        made("tok_again", SIGN_IN, "tok_page", expires=T0 + 600 * MINUTE),
        made("tok_third", SIGN_IN, "tok_again", expires=T0 + 500 * MINUTE),
        made("tok_waits", CODE, "tok_again", expires=T0 + 10 * MINUTE),
    ]
    tokens = workspace(*said).tokens
    assert ends_with(tokens, "tok_page", T0) == ["tok_again", "tok_third", "tok_waits"]
    assert ends_with(tokens, "tok_again", T0 + 10 * MINUTE) == ["tok_third"]
    assert ends_with(tokens, "tok_third", T0) == []


def test_a_sign_in_bears_the_persons_name_until_it_is_erased() -> None:
    tokens = workspace(PERSON, ANN_ON_THE_PAGE).tokens
    page = tokens["tok_page"]
    assert name_of(page, {"tok_ann": "Ann"}) == "Ann (page)"
    assert name_of(page, {"tok_ann": ""}) == name_of(page, {}) == ""
    assert name_of(page, {"tok_ann": "Ann", "tok_page": ""}) == ""
    assert name_of(tokens["tok_ann"], {"tok_ann": "Ann"}) == "Ann"


def test_a_code_is_no_bearer_and_a_bearer_is_no_code() -> None:
    known = directory(PERSON, CODE_OF_ANN, ANN_ON_THE_PAGE)
    assert known.find("secret of tok_code", T0) is None
    assert known.find_code("secret of tok_ann", T0) is None
    assert known.find_code("secret of tok_page", T0) is None
    assert known.find_code("secret of tok_code", T0 + 10 * MINUTE) is None
    code = known.find_code("secret of tok_code", T0)
    assert code is not None
    assert (code.token_id, code.workspace_id) == ("tok_code", "ws_1")


def test_what_is_done_on_the_page_is_done_by_the_person() -> None:
    known = directory(PERSON, ANN_ON_THE_PAGE, made("tok_again", SIGN_IN, "tok_page", expires=T0 + MINUTE))
    found = [known.find(f"secret of {one}", T0) for one in ("tok_ann", "tok_page", "tok_again")]
    assert [one.subject for one in found if one is not None] == ["token:tok_ann"] * 3
    assert [one.token_id for one in found if one is not None] == ["tok_ann", "tok_page", "tok_again"]


def test_a_revoked_sign_in_ends_open_streams_and_no_other() -> None:
    known = directory(PERSON, ANN_ON_THE_PAGE)
    both = [known.find(f"secret of {one}", T0) for one in ("tok_page", "tok_ann")]
    known.apply([record(9, gone("tok_page"))])
    assert [one is not None and known.still_valid(one, T0) for one in both] == [False, True]


def test_the_directory_forgets_what_has_expired_and_a_repeat_opens_nothing() -> None:
    known = directory(PERSON, CODE_OF_ANN, ANN_ON_THE_PAGE)
    late = T0 + 700 * MINUTE
    known.apply([record(9, made("tok_new", CODE, "tok_ann", late, late + MINUTE))])
    held = (known._codes, known._principals, known._keys_of, known._positions)
    assert [len(one) for one in held] == [1, 1, 2, 2]
    known.apply([record(3, CODE_OF_ANN), record(4, ANN_ON_THE_PAGE)])
    assert known.find_code("secret of tok_code", late) is None
    assert known.find("secret of tok_page", late) is None


def test_a_kind_of_token_that_is_not_known_opens_nothing() -> None:
    event = ev.TokenCreated(token_id="tok_x", role=ev.Role.ROLE_ADMIN, token_sha256=sha256("secret of tok_x"))
    event.kind = 7  # type: ignore[assignment]
    known = directory((event, "token:tok_ann", T0))
    assert known.find("secret of tok_x", T0) is None
    assert known.find_code("secret of tok_x", T0) is None
