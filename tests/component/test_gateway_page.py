"""The page from a real Envoy: the right file under the right fields, and never any other file."""

import asyncio
import gzip
import http.client
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.health import probe_gateway
from deploy.local.ports import free_port
from services.gateway.headers import ALWAYS, CONTENT_SECURITY_POLICY, PAGE
from services.gateway.plan import UPSTREAMS, Limits
from services.gateway.routes import PLACES
from tests.support.eventually import eventually
from tests.support.gateway import Gateway, gateway_before
from tests.support.loop_thread import LoopThread
from tests.support.typed import DOCS, environment

INDEX = b"<!doctype html><title>Tether</title>" + b"<p>runners</p>" * 40
SCRIPT = b"let a = 1;\n" * 200
PICTURE = bytes(range(256)) * 3
SECRET = b"a file beside the page"


@pytest.fixture(scope="module")
def gateway(shared_loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "page" / "assets").mkdir(parents=True)
    (folder / "page" / "index.html").write_bytes(INDEX)
    (folder / "page" / "favicon.svg").write_bytes(b"<svg/>")
    (folder / "page" / "assets" / "app-abc123.js").write_bytes(SCRIPT)
    (folder / "page" / "assets" / "picture-abc123.png").write_bytes(PICTURE)
    (folder / "secret.txt").write_bytes(SECRET)
    (folder / "page-secret").write_bytes(SECRET)
    with gateway_before(shared_loop, folder, folder / "page", Limits(request_header_timeout_s=0.3)) as gateway:
        yield gateway


@pytest.mark.parametrize("path", ["/", "/index.html", "/?a=b", *(f"/{place}" for place in PLACES), "/runners/a/b?c=d"])
def test_every_place_of_the_page_is_its_one_document_which_is_asked_for_again(gateway: Gateway, path: str) -> None:
    reply = gateway.get(path)
    assert (reply.status, reply.body) == (200, INDEX)
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"


def test_an_asset_is_kept_for_ever_and_comes_byte_for_byte(gateway: Gateway) -> None:
    script, picture = gateway.get("/assets/app-abc123.js"), gateway.get("/assets/picture-abc123.png")
    assert (script.body, script.headers["content-type"]) == (SCRIPT, "text/javascript; charset=utf-8")
    assert (picture.body, picture.headers["content-type"]) == (PICTURE, "image/png")
    assert {script.headers["cache-control"], picture.headers["cache-control"]} == {
        "public, max-age=31536000, immutable"
    }
    assert gateway.get("/favicon.svg").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/", "/assets/app-abc123.js", "/favicon.svg"])
def test_every_file_comes_with_what_protects_its_reader(gateway: Gateway, path: str) -> None:
    headers = gateway.get(path).headers
    assert {name: headers.get(name) for name in {**ALWAYS, **PAGE}} == {**ALWAYS, **PAGE}
    assert "'unsafe" not in CONTENT_SECURITY_POLICY
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY


def test_head_tells_the_length_without_the_content(gateway: Gateway) -> None:
    reply = gateway.get("/assets/app-abc123.js", "HEAD")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", str(len(SCRIPT)))


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [("gzip", "gzip"), ("gzip, deflate, br", "br"), ("identity", None), ("br;q=0, gzip", "gzip")],
)
def test_text_is_compressed_as_its_reader_likes(gateway: Gateway, accepted: str, chosen: str | None) -> None:
    for path, content in (("/", INDEX), ("/assets/app-abc123.js", SCRIPT)):
        reply = gateway.get(path, **{"Accept-Encoding": accepted})
        assert reply.headers.get("content-encoding") == chosen
        assert reply.headers["vary"] == "Accept-Encoding"
        if chosen == "gzip":
            assert gzip.decompress(reply.body) == content
        assert (len(reply.body) < len(content)) == (chosen is not None)
    picture = gateway.get("/assets/picture-abc123.png", **{"Accept-Encoding": accepted})
    assert (picture.body, picture.headers.get("content-encoding")) == (PICTURE, None)


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../../secret.txt",
        "/assets/%2e%2e/%2e%2e/secret.txt",
        "/assets/%2E%2E/../secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/assets/..%5c..%5csecret.txt",
        "/assets/%252e%252e/%252e%252e/secret.txt",
        "/assets//../../secret.txt",
        "/assets/app-abc123.js%00.txt",
        "/..%00/secret.txt",
        "//secret.txt",
        "/-secret",
        "/page-secret",
        "/assets",
        "/assets/",
        "/gateway/envoy.json",
        "/proc/self/environ",
    ],
)
def test_no_other_file_is_ever_read(gateway: Gateway, path: str) -> None:
    reply = gateway.get(path)
    assert reply.status in (404, 400)
    assert SECRET not in reply.body


def test_what_is_not_there_is_told_shortly_and_never_kept(gateway: Gateway) -> None:
    for reply in (gateway.get("/nothing"), gateway.get("/assets/old-000000.js"), gateway.get("/", "POST")):
        assert (reply.status, reply.body) == (404, b"There is nothing here.\n")
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1:1", "localhost", "[::2]:{port}"])
def test_a_request_under_another_name_is_refused(gateway: Gateway, host: str) -> None:
    reply = gateway.get("/", Host=host.format(port=gateway.port))
    assert reply.status == 421
    assert INDEX not in reply.body
    assert reply.body.startswith(f"This gateway is known as {gateway.address}".encode())
    assert gateway.get("/", Host=f"localhost:{gateway.port}").status == 200


def test_the_answer_names_no_software_and_its_request_id_is_ours(gateway: Gateway) -> None:
    mine = {"x-request-id": "chosen-by-me", "x-envoy-upstream-rq-timeout-ms": "1"}
    for path in ("/", "/nothing", "/healthz", "/tether.scheduler.v1.RunnerService/ListRunners"):
        headers = gateway.get(path, **mine).headers
        assert not [name for name in headers if name == "server" or name.startswith(("x-envoy", "x-powered"))], path
        assert len(headers["x-request-id"]) == 36
        assert "envoy" not in str(headers).lower()


def test_headers_without_end_are_cut_off(gateway: Gateway) -> None:
    begin = f"GET / HTTP/1.1\r\nHost: {gateway.address}\r\n".encode()
    assert gateway.raw(begin + b"x-a: " + b"a" * 40_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 431 ")
    many = b"".join(b"x-%d: a\r\n" % number for number in range(150))
    assert gateway.raw(begin + many + b"\r\n").startswith(b"HTTP/1.1 431 ")
    assert gateway.raw(begin).startswith(b"HTTP/1.1 408 "), "who never ends his headers is not waited for"


async def test_a_request_leaves_one_line_without_query_or_token(gateway: Gateway) -> None:
    hidden = {"authorization": "Bearer tt_hidden", "cookie": "tt_hidden"}
    request_id = gateway.get("/usage?code=tt_hidden", **hidden).headers["x-request-id"]

    def line() -> list[dict[str, object]]:
        return [line for line in gateway.log() if line.get("request_id") == request_id]

    (found,) = await eventually(line, 10, "the request in the access log")
    assert (found["method"], found["path"], found["status"], found["bytes_sent"]) == ("GET", "/usage", 200, len(INDEX))
    text = gateway.supervised.log.read_text()
    assert "tt_hidden" not in text
    assert "/healthz" not in text, "probes would fill it"


def test_health_is_answered_under_any_name(gateway: Gateway) -> None:
    for host in (gateway.address, "10.1.2.3:8080"):
        assert gateway.get("/healthz", Host=host).status == 200


def test_connections_are_kept_between_requests(gateway: Gateway) -> None:
    connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=10)
    connection.connect()
    first = connection.sock
    for _ in range(3):
        connection.request("GET", "/")
        connection.getresponse().read()
        assert connection.sock is first
    connection.close()


async def test_without_a_page_it_says_how_to_build_it_and_a_new_start_finds_it(
    shared_loop: LoopThread, tmp_path: Path
) -> None:
    with gateway_before(shared_loop, tmp_path, tmp_path / "page") as gateway:
        reply = gateway.get("/runners/a")
        assert (reply.status, reply.headers["cache-control"]) == (503, "no-store")
        assert b"run <code>make page</code>" in reply.body
        assert reply.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert gateway.get("/tether.x").status == 404

        (tmp_path / "page").mkdir()
        (tmp_path / "page" / "index.html").write_bytes(INDEX)
        killed = gateway.supervised.identity
        assert killed is not None
        os.kill(killed.pid, 9)
        await eventually(lambda: gateway.get("/runners/a").body == INDEX, 20, "Envoy after it was killed")
        assert gateway.supervised.restarts == 1


async def test_in_a_container_the_same_configuration_runs(tmp_path: Path) -> None:
    port = free_port()
    upstreams = {f"TETHER_{name.upper()}_ADDRESS": "127.0.0.1:1" for name in UPSTREAMS}
    variables = environment(
        TETHER_LISTEN=f"0.0.0.0:{port}",
        TETHER_INSECURE="true",
        TETHER_HOSTS="gpu.example.com",
        TMPDIR=str(tmp_path),
        **upstreams,
    )
    envoy = await asyncio.create_subprocess_exec(
        str(DOCS.parent / "deploy" / "envoy.sh"), env=variables, stderr=asyncio.subprocess.PIPE
    )
    try:

        async def serves() -> bool:
            await probe_gateway(f"127.0.0.1:{port}")
            return True

        await eventually(serves, 20, "an Envoy that serves")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for host, status in (("gpu.example.com", 404), ("evil.example", 421)):
            connection.request("GET", "/nothing", headers={"Host": host})
            reply = connection.getresponse()
            reply.read()
            assert reply.status == status
        connection.close()
    finally:
        envoy.terminate()
        _, said = await envoy.communicate()
    assert [line.split()[-1] for line in said.splitlines()] == [b"ENVOY_SIGTERM"], "it has nothing to warn of"
