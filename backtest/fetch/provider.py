"""The HTTP transport: web3.py's provider (and through it requests' connections, proxies and compression), with JSON
read by msgspec and with errors that carry the node's own words and never a key.

A request has one deadline for everything: connecting, TLS, sending, status line, headers and body. Timeouts of sockets
count from one read to the next, so a node that sends a byte at a time would never meet one; here each read is given
what is left of the request's own time. Bodies are bounded as they come and as they are unpacked.
"""

from __future__ import annotations

import http.client
import io
import logging
import math
import re
import socket
import threading
import time
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec
import requests
import urllib3
from eth_typing import URI
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from web3 import HTTPProvider

from backtest.errors import UserError
from backtest.fetch.dialects import Kind

_CHUNK = 1 << 20
REPLY_LIMIT = 256 << 20
"""Bytes of one reply, as sent and as unpacked. Providers stop at 150 MB; what is larger is asked for in parts."""


def redact(url: str) -> str:
    """Scheme and host only: keys may sit in the user part, the path or the query."""
    parts = urlsplit(url)
    host = parts.hostname or "?"
    port = f":{parts.port}" if parts.port else ""
    hidden = "/***" if parts.path.strip("/") or parts.query or parts.username or parts.fragment else ""
    return f"{parts.scheme}://{host}{port}{hidden}"


def _parts(url: str) -> SplitResult | None:
    """The URL in parts; None if its host or port cannot be read (what urllib says of them may hold a key)."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


class Unanswered(Exception):
    """No complete reply. ``kind``, as of a ``Complaint``: "timeout", "range" where it is too large, or "transient":
    the connection broke.
    """

    def __init__(self, text: str, kind: Kind) -> None:
        super().__init__(text)
        self.kind = kind


class BrokenReply(Exception):
    """A reply that is not the JSON that was asked for."""


class _TooLarge(Exception):
    pass


class _Clock(threading.local):
    """When the request of this thread must be over, in ``time.monotonic`` seconds. Connections are made and read on the
    thread that asks.
    """

    deadline = math.inf
    connecting = math.inf
    """Seconds that making a connection may take."""
    reading: set[Any] | None = None
    """Where the sockets that are read from are kept (``Provider.cut``)."""

    def left(self) -> float:
        """Seconds; TimeoutError where there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


_clock = _Clock()


class _Bytes(io.RawIOBase):
    """What comes from a socket for one response, until its deadline and its largest size."""

    def __init__(self, sock: Any) -> None:
        self._sock, self._file = sock, sock.makefile("rb", buffering=0)
        self._bytes = 0
        self._reading = _clock.reading
        if self._reading is not None:
            self._reading.add(sock)

    def makefile(self, *_: Any) -> io.BufferedReader:
        """As of a socket, for ``http.client``."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if math.isfinite(_clock.deadline):
            self._sock.settimeout(_clock.left())
        count: int = self._file.readinto(buffer)
        self._bytes += count
        if self._bytes > REPLY_LIMIT:
            raise _TooLarge
        return count

    def close(self) -> None:
        if self._reading is not None:
            self._reading.discard(self._sock)
        self._file.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(_Bytes(sock), *args, **options)  # type: ignore[arg-type]


class _Connecting(HTTPConnection):
    """Tries the addresses of a host one after another, all within the request's time."""

    response_class = _Response

    def _new_conn(self) -> socket.socket:
        if not math.isfinite(_clock.deadline):
            return super()._new_conn()
        host = self._dns_host
        try:
            found = {entry[4][0] for entry in socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)}
        except OSError as error:
            raise NewConnectionError(self, f"{type(error).__name__}") from error
        failed: Exception = NewConnectionError(self, "no address")
        try:
            for address in sorted(map(str, found)):
                self._dns_host = address
                self.timeout = min(_clock.left(), _clock.connecting)
                try:
                    return super()._new_conn()
                except (NewConnectionError, ConnectTimeoutError) as error:
                    failed = error
        finally:
            self._dns_host = host
        raise failed


class _ConnectingTls(_Connecting, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connecting


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _ConnectingTls


class _Adapter(requests.adapters.HTTPAdapter):
    """Connections whose reads end at the request's deadline, through a proxy as well."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return manager


class Provider(HTTPProvider):
    """``Web3(Provider(url, timeout, connections))`` works as with web3's own; the fetcher uses ``post``."""

    def __init__(self, url: str, timeout: float, connections: int) -> None:
        parts = None if re.search(r"[\x00-\x20\x7f]", url) else _parts(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            shown = redact(url) if parts is not None and "://" in url else "***"
            raise UserError(f"'{shown}' is not the address of a node", "give --rpc http://... or https://...")
        self._session = requests.Session()  # one for all threads; its pool of connections is thread-safe
        self._session.mount(f"{parts.scheme}://", _Adapter(pool_connections=1, pool_maxsize=connections))
        super().__init__(
            url, request_kwargs={"timeout": timeout}, session=self._session, exception_retry_configuration=None
        )
        self._url = URI(url)
        self._timeout = timeout
        self._reading: set[socket.socket] = set()
        self._name = redact(url)
        segments = [
            *parts.path.split("/"),
            *(p.partition("=")[2] for p in parts.query.split("&")),
            parts.username,
            parts.password,
            parts.fragment,
        ]
        secrets = {url, parts.query, f"{parts.path}?{parts.query}", *(s for s in segments if s and len(s) >= 8)}
        secrets |= {unquote(secret) for secret in secrets}
        self._secrets = sorted((s for s in secrets if len(s) >= 8), key=len, reverse=True)
        logging.getLogger("urllib3.connectionpool").addFilter(self._hide)

    def __str__(self) -> str:
        return f"RPC connection {self._name}"

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._session.close()

    def cut(self) -> None:
        """End every request that waits for this provider: it is taken for dead, and they are asked of another one."""
        for sock in list(self._reading):
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def scrub(self, text: str) -> str:
        """``text`` without the parts of the URL that may be keys."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _hide(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.scrub(record.getMessage()), None
        return True

    def post(
        self, payload: bytes, seconds: float | None = None, connecting: float = math.inf
    ) -> tuple[int, float, bytes]:
        """(HTTP status, seconds of Retry-After, body), whatever the status; ``Unanswered`` if there is no whole reply
        within ``seconds`` (default the provider's timeout) or no connection within ``connecting``, or if it is larger
        than ``REPLY_LIMIT``.
        """
        seconds = self._timeout if seconds is None else seconds
        _clock.deadline = time.monotonic() + seconds
        _clock.connecting, _clock.reading = connecting, self._reading
        try:
            with self._request_session_manager.get_response_from_post_request(
                self._url,
                data=payload,
                headers=self.get_request_headers(),
                timeout=self._timeout,
                stream=True,
                allow_redirects=False,
            ) as response:
                chunks, size = [], 0
                for chunk in response.raw.stream(_CHUNK, decode_content=True):
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > REPLY_LIMIT:
                        raise _TooLarge
                    _clock.left()
                return response.status_code, _seconds(response.headers.get("Retry-After")), b"".join(chunks)
        except (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
            raise _late(seconds) from None
        except _TooLarge:
            raise Unanswered(f"a reply of more than {REPLY_LIMIT >> 20} MiB", "range") from None
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            OSError,
            ValueError,
        ) as error:
            if time.monotonic() >= _clock.deadline:
                raise _late(seconds) from None
            raise Unanswered(f"the connection failed ({type(error).__name__})", "transient") from None
        finally:
            _clock.deadline = math.inf

    def _make_request(self, method: Any, request_data: bytes) -> bytes:
        return self.post(request_data)[2]

    @staticmethod
    def decode_rpc_response(raw_response: bytes) -> Any:
        return msgspec.json.decode(raw_response)


def _late(seconds: float) -> Unanswered:
    return Unanswered(f"no complete reply within {seconds:g} s", "timeout")


def _seconds(header: str | None) -> float:
    """Retry-After in seconds; the form with a date counts as unknown."""
    try:
        seconds = float(header or 0)
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds < math.inf else 0.0
