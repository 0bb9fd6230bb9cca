"""An S3 server on this machine, and lakes in its buckets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backtest.lake import Lake
from backtest.lake.storage import LocalStorage, open_storage
from backtest.resources import resource


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server on this machine: a process of its own, stopped by its number."""
    program = (
        "from moto.server import ThreadedMotoServer; import time; s = ThreadedMotoServer('127.0.0.1', 0,"
        " verbose=False); s.start();print(s.get_host_and_port()[1], flush=True); time.sleep(3600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def address(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty prefix of a bucket that exists, and a cache of this test's own."""
    import boto3

    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server,
    }
    for name, value in {**settings, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    name = f"b-{abs(hash(tmp_path)):x}"
    client = boto3.client("s3", endpoint_url=server, region_name="us-east-1")
    client.create_bucket(Bucket=name)
    client.close()
    return f"s3://{name}/some/lake"


def copied_sample(address: str) -> Lake:
    """The bundled lake, object by object: a lake is the same bytes wherever it lies."""
    source, target = LocalStorage(resource("sample") / "lake"), open_storage(address)
    for key in (*source.list("data"), *source.list("manifest")):
        target.put(key, source.read(key))
    return Lake(address)
