"""Which request goes where: to a service, to a file of the page, or nowhere."""

from services.gateway.files import INDEX, MAX_FILE_BYTES, File
from services.gateway.headers import ALWAYS, NEVER, PAGE, fields
from services.gateway.plan import Plan
from services.gateway.typed import Json
from services.rpc.through import THROUGH_GATEWAY

# Services by the beginning of a method's path. What every gRPC server answers, health and reflection, is asked of the
# scheduler: without it nothing works, and every other server can be asked directly.
GRPC = {
    "/tether.scheduler.v1.": "scheduler",
    "/tether.quota.v1.": "quota",
    "/tether.metrics.v1.": "metrics",
    "/tether.eventlog.v1.": "eventlog",
    "/grpc.health.v1.Health/": "scheduler",
    "/grpc.reflection.v1": "scheduler",
}

# Answers 200 as long as Envoy serves, to whatever name: probes of a cluster come with an address of their own. Whether
# a service behind it works is that service's own health, because a door must not close for one of four rooms.
HEALTH = "/healthz"

# Places within the page, each with whatever follows it; all are the same file, which finds out where it is.
PLACES = ("runners", "workflows", "trainings", "usage", "events", "settings", "compare", "sign-in")

_NOT_BUILT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Tether</title></head>
<body><p>The page has not been built here; run <code>make page</code> and start the platform again.</p></body></html>
"""


def route_configuration(plan: Plan) -> Json:
    """Ours under its exact names, and the refusal of all others.

    A page elsewhere whose name was made to mean this machine (DNS rebinding) comes with its own name.
    """
    health = _say({"path": HEALTH}, 200, "The gateway serves.\n")
    ours = [health, *(_grpc(prefix, service) for prefix, service in GRPC.items()), *_page(plan.page)]
    known = " or ".join(plan.hosts[:2])
    unknown = f"This gateway is known as {known}, not by the name in the request; name others with TETHER_HOSTS.\n"
    everything = {"prefix": "/"}
    nothing_here = _say(everything, 404, "There is nothing here.\n")
    return {
        "name": "gateway",
        "max_direct_response_body_size_bytes": MAX_FILE_BYTES,
        "response_headers_to_add": fields(ALWAYS),
        "virtual_hosts": [
            {"name": "gateway", "domains": list(plan.hosts), "routes": [*ours, nothing_here]},
            {"name": "strangers", "domains": ["*"], "routes": [health, _say(everything, 421, unknown)]},
        ],
    }


def _grpc(prefix: str, service: str) -> Json:
    """Calls of a service, without any limit of time: watches and sessions last for ever. Servers keep the deadlines."""
    return {
        "match": {
            "prefix": prefix,
            "headers": [{"name": "content-type", "string_match": {"prefix": "application/grpc"}}],
        },
        "route": {"cluster": service, "timeout": "0s", "idle_timeout": "0s"},
        # Whatever a caller says of himself under this name is replaced.
        "request_headers_to_add": fields({THROUGH_GATEWAY: "yes"}),
    }


def _page(files: tuple[File, ...]) -> list[Json]:
    """An exact path each; without a page, every place says that there is none."""
    index = next((file for file in files if file.path == f"/{INDEX}"), None)
    places = [{"path": "/"}, *({"path_separated_prefix": f"/{place}"} for place in PLACES)]
    if index is None:
        html = {"content-type": "text/html; charset=utf-8", "cache-control": NEVER}
        return [_answer(match, 503, {"inline_string": _NOT_BUILT}, html) for match in places]
    return [*(_file({"path": file.path}, file) for file in files), *(_file(match, index) for match in places)]


def _file(match: Json, file: File) -> Json:
    values = {"content-type": file.content_type, "cache-control": file.cache_control}
    return _answer(match, 200, {"filename": str(file.file)}, values)


def _answer(match: Json, status: int, body: Json, values: dict[str, str]) -> Json:
    read_only = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
    return {
        "match": {**match, "headers": [read_only]},
        "direct_response": {"status": status, "body": body},
        "response_headers_to_add": fields({**PAGE, **values}),
    }


def _say(match: Json, status: int, text: str) -> Json:
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": text}},
        "response_headers_to_add": fields({"cache-control": NEVER}),
    }
