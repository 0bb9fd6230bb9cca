"""A lake in a bucket of S3 or of a store that speaks its protocol: ``s3://bucket/prefix``, extra ``[s3]``.

Address and keys come from the environment, by the names that AWS gives them (AWS_ACCESS_KEY_ID, AWS_REGION,
AWS_ENDPOINT_URL, ...). Manifests are published by the conditional put (``If-None-Match: *``): of two writers of one
version exactly one succeeds. There are no
locks. Data files never change under their name, which holds a digest of their content, so that copies on the local disk
never go stale: they lie below ``$XDG_CACHE_HOME/backtest/lakes`` and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backtest.errors import LakeError

GRACE = 86_400
_AT_ONCE = 8  # files copied at the same time


class Bucket:
    """Objects below a prefix of a bucket.

    Raises:
        LakeError: the extra is not installed, or the environment's settings are not understood.
    """

    grace = GRACE

    def __init__(self, bucket: str, prefix: str) -> None:
        try:
            from obstore.store import S3Store
        except ModuleNotFoundError:
            raise LakeError(
                "lakes on S3 need the package obstore", "install it: pip install 'liquidation-backtest[s3]'"
            ) from None
        self.path: Path | str = f"s3://{bucket}/{prefix}".rstrip("/")
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        try:
            self._store = S3Store(bucket, prefix=prefix or None, client_options={"allow_http": plain})
        except Exception as error:
            raise LakeError(
                f"cannot open {self.path}: {_one_line(error)}", "check the settings in the environment (AWS_...)"
            ) from None
        # The same address may mean another store elsewhere.
        store = f"{os.environ.get('AWS_ENDPOINT_URL', '')} {self.path}"
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self._copies = cache / "backtest" / "lakes" / hashlib.sha256(store.encode()).hexdigest()[:16]

    def create(self) -> None:
        for page in self._store.list():
            for item in page:
                if item["path"].split("/")[0] not in ("manifest", "data"):
                    raise LakeError(
                        f"{self.path} is not a lake and not empty ('{item['path']}')", "give an empty or new prefix"
                    )

    def remove(self, manifest: str) -> None:
        self.delete(manifest)  # without a lock, what else there is may be another writer's

    def exclusive(self) -> AbstractContextManager[None]:
        return nullcontext()

    def put(self, key: str, data: bytes | memoryview) -> None:
        with self._explained(f"cannot write {self.path}/{key}"):
            self._store.put(key, bytes(data))

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        from obstore.exceptions import AlreadyExistsError

        with self._explained(f"cannot write {self.path}/{key}"):
            try:
                self._store.put(key, bytes(data), mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    def read(self, key: str) -> bytes:
        with self._explained(f"cannot read {self.path}/{key}"):
            return bytes(self._store.get(key).bytes())

    def list(self, prefix: str, *, older_than: int = 0) -> list[str]:
        before = datetime.now(UTC) - timedelta(seconds=older_than)
        with self._explained(f"cannot list {self.path}"):
            found = [item for page in self._store.list(prefix) for item in page]
        return sorted(item["path"] for item in found if not older_than or item["last_modified"] <= before)

    def delete(self, key: str) -> None:
        with self._explained(f"cannot delete {self.path}/{key}"):
            self._store.delete(key)
        Path(self.location(key)).unlink(missing_ok=True)

    def location(self, key: str) -> str:
        return str(self._copies / key)

    def provide(self, locations: Iterable[str]) -> None:
        lacking = [location for location in locations if not os.path.exists(location)]
        if lacking:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(self._copy, lacking))

    def renew(self, location: str) -> bool:
        self._copy(location)
        return True

    def _copy(self, location: str) -> None:
        target = Path(location)
        key = target.relative_to(self._copies).as_posix()
        try:
            data = self.read(key)
        except FileNotFoundError:
            raise LakeError(
                f"{self.path}/{key} is gone",
                "the lake was compacted meanwhile: refresh() and read again, or restore the file",
            ) from None
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f"{target.name}.unfinished-{os.getpid()}")
        unfinished.write_bytes(data)
        unfinished.chmod(0o444)
        unfinished.replace(target)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """The store's errors in one line; that an object is not there stays FileNotFoundError."""
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            yield
        except (AlreadyExistsError, FileNotFoundError):
            raise
        except BaseError as error:
            raise LakeError(
                f"{what}: {_one_line(error)}", "check the bucket, the network and AWS_... in the environment"
            ) from None


def _one_line(error: Exception) -> str:
    """The first line of an error of the store, short."""
    return " ".join(str(error).split("\n")[0].split())[:300]
