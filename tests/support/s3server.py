"""An S3 service on the loopback, real but for its data: moto's server, one write at a time.

S3 answers a put with ``If-None-Match: *`` on an object that is there with 412 PreconditionFailed, and so does moto.
But S3 checks and writes in one step, and moto in two, between which another thread may write: here a lock lets in one
write after the other, which makes a step of them as in S3.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

KEY = "AKIALOOPBACK0000TEST"
SECRET = "sEcReT+of/the/loopback+not/to+be/found/0"
TOKEN = "tOkEn//of+the+loopback/not/to/be/found=="

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def credentials(endpoint: str) -> dict[str, str]:
    """Environment of a client."""
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }


@contextmanager
def s3_server() -> Iterator[tuple[str, int]]:
    """Run the service; host and port."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = _one_write_at_a_time(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield "127.0.0.1", server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _one_write_at_a_time(application: Application) -> Application:
    lock = threading.Lock()

    def serve(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return application(environ, start)
        with lock:
            return list(application(environ, start))

    return serve


def make_bucket(endpoint: str, name: str) -> None:
    """Make an empty bucket."""
    from http.client import HTTPConnection

    signed = f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/s3/aws4_request"
    connection = HTTPConnection(endpoint.removeprefix("http://"), timeout=30)
    try:
        connection.request("PUT", f"/{name}", headers={"Authorization": signed, "Host": "s3.amazonaws.com"})
        assert connection.getresponse().status == 200
    finally:
        connection.close()
