"""Fields of requests, checked. All raise InvalidField."""

from protos.quota.v1.quota_pb2 import UsageGrouping
from services.quota.domain.minutes import bounds, period_of
from services.rpc.errors import InvalidField, Refused
from services.rpc.shell import caller

DEFAULT_PAGE = 100
MAX_PAGE = 1000
MAX_REASON = 500
# A million years on one T4 is 5 × 10^14: beyond this it is a mistake, and "unlimited" is said otherwise.
MAX_MILLIMINUTES = 10**15


class NoWorkspace(Refused):
    """Minutes are counted by workspace, and the operator's token belongs to none."""

    def __init__(self) -> None:
        super().__init__("the operator's token belongs to no workspace; ask with a token of the workspace")


def workspace_id() -> str:
    """The caller's workspace. Raises NoWorkspace."""
    found = caller().workspace_id
    if not found:
        raise NoWorkspace
    return found


def month(period: str) -> tuple[int, int]:
    """Start and end of the month in ms; zeros for an empty period."""
    if not period:
        return 0, 0
    try:
        return bounds(period)
    except ValueError:
        raise InvalidField("period", period, "a period is a calendar month such as 2026-11, in UTC") from None


def begun_month(period: str, now_ms: int) -> str:
    """A month that has begun; the current one for an empty period."""
    start_ms, _ = month(period)
    if start_ms > now_ms:
        raise InvalidField("period", period, f"that month has not begun; this one is {period_of(now_ms)}")
    return period or period_of(now_ms)


def page_size(given: int) -> int:
    if not 0 <= given <= MAX_PAGE:
        raise InvalidField("page_size", given, f"a page has 1 to {MAX_PAGE} charges; 0 means {DEFAULT_PAGE}")
    return given or DEFAULT_PAGE


def page_token(token: str) -> int:
    """Position of the last job of the page before; zero for the first page."""
    if token and not (token.isascii() and token.isdigit() and 0 < int(token[:20]) < 1 << 62):
        raise InvalidField("page_token", token, "it must be the next_page_token of the page before")
    return int(token or 0)


def quota(milliminutes: int) -> int:
    if not 0 <= milliminutes <= MAX_MILLIMINUTES:
        rule = f"a quota is minutes × 1000, from 0 to {MAX_MILLIMINUTES}; leave it out for unlimited"
        raise InvalidField("quota_milliminutes", milliminutes, rule)
    return milliminutes


def adjustment(milliminutes: int) -> int:
    if not milliminutes or abs(milliminutes) > MAX_MILLIMINUTES:
        rule = f"an adjustment is minutes × 1000, not zero, and at most {MAX_MILLIMINUTES} either way"
        raise InvalidField("milliminutes", milliminutes, rule)
    return milliminutes


def reason(text: str) -> str:
    """Without the spaces at its ends."""
    kept = text.strip()
    if not 0 < len(kept) <= MAX_REASON or not kept.isprintable():
        rule = f"a reason has 1 to {MAX_REASON} characters in one line; say it for the people who read it later"
        raise InvalidField("reason", text, rule)
    return kept


def grouping(value: UsageGrouping.ValueType) -> UsageGrouping.ValueType:
    if value not in UsageGrouping.values():
        known = ", ".join(name.removeprefix("USAGE_GROUPING_") for name in UsageGrouping.keys()[1:])
        raise InvalidField("group_by", value, f"it must be one of: {known}")
    return value
