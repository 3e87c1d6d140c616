"""A storage with S3's protocol, as far as a dataset is read from it: a folder served as a bucket, over real sockets."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bucket"
_MANY = 10_000


class Bucket(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        # Keys whose content was asked for, in order.
        self.read: list[str] = []
        self._gate: threading.Semaphore | None = None

    def let_through(self, files: int) -> None:
        """From now on the content of so many files is sent; that of all others waits for `let_all`."""
        self._gate = threading.Semaphore(files)

    def let_all(self) -> None:
        if self._gate is not None:
            self._gate.release(_MANY)
        self._gate = None

    def pass_gate(self) -> None:
        if self._gate is not None:
            self._gate.acquire()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed in the middle of an answer are what some tests are about."""

    @property
    def environment(self) -> dict[str, str]:
        """What points a client of S3 to it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server_address[1]}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextmanager
def serving(root: Path) -> Iterator[Bucket]:
    """The files below `root` as the objects of BUCKET."""
    bucket = Bucket(root)
    thread = threading.Thread(target=bucket.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield bucket
    finally:
        bucket.let_all()
        bucket.shutdown()
        thread.join()
        bucket.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bucket

    def do_HEAD(self) -> None:
        self._answer_object(body=False)

    def do_GET(self) -> None:
        if unquote(urlsplit(self.path).path).strip("/") == BUCKET:
            self._answer_list()
        else:
            self._answer_object(body=True)

    def _answer_list(self) -> None:
        """ListObjectsV2, on one page."""
        query = parse_qs(urlsplit(self.path).query)
        prefix = query.get("prefix", [""])[0]
        entries = []
        for path in sorted(self.server.root.rglob("*")):
            key = path.relative_to(self.server.root).as_posix()
            if path.is_file() and key.startswith(prefix):
                size, etag = path.stat().st_size, _etag(path)
                about = f"<Size>{size}</Size><ETag>&quot;{etag}&quot;</ETag>"
                entries.append(
                    f"<Contents><Key>{escape(key)}</Key>{about}"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        content = (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><KeyCount>{len(entries)}</KeyCount><IsTruncated>false</IsTruncated>"
            f"{''.join(entries)}</ListBucketResult>"
        )
        self._send(200, content.encode(), {"Content-Type": "application/xml"})

    def _answer_object(self, *, body: bool) -> None:
        key = unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/")
        path = self.server.root / key
        if not path.is_file():
            self._send(404, b"", {})
            return
        content = path.read_bytes()
        about = {"ETag": f'"{_etag(path)}"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        if not body:
            self._send(200, content, about, body=False)
            return
        self.server.read.append(key)
        self.server.pass_gate()
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes="):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(content)), len(content) - 1)
            about["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            self._send(206, content[start : end + 1], about)
        else:
            self._send(200, content, about)

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool = True) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: the tests look at `read`."""


def _etag(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
