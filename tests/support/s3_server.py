"""moto's S3 server on loopback, with an empty bucket for each test.

One request at a time: S3 itself decides a conditional put in one step, moto only if no other request is between.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from moto.server import MotoRequestHandler
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line a request is a third of the time
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=False, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bucket(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket; the environment leads there, for this process and those that it starts."""
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": s3_address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("connect_timeout", "read_timeout"):  # 5 and 15 seconds are little on a machine that does other things
        monkeypatch.setattr(s3fs.S3FileSystem, name, 120)
    name = f"models-{uuid.uuid4().hex}"
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"


__all__ = ["bucket", "s3_address"]
