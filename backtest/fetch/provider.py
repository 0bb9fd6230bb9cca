"""The HTTP transport: web3.py's provider (and through it requests' connections, proxies and compression), with JSON
read by msgspec and with errors that carry the node's own words and never a key.
"""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec
import requests
import urllib3
from eth_typing import URI
from web3 import HTTPProvider

from backtest.errors import UserError

_CHUNK = 1 << 20


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
    """No complete reply: ``timed_out``, or the connection broke."""

    def __init__(self, text: str, timed_out: bool) -> None:
        super().__init__(text)
        self.timed_out = timed_out


class BrokenReply(Exception):
    """A reply that is not the JSON that was asked for."""


class Provider(HTTPProvider):
    """``Web3(Provider(url, timeout, connections))`` works as with web3's own; the fetcher uses ``post``."""

    def __init__(self, url: str, timeout: float, connections: int) -> None:
        parts = _parts(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            shown = redact(url) if parts is not None and "://" in url else "***"
            raise UserError(f"'{shown}' is not the address of a node", "give --rpc http://... or https://...")
        self._session = requests.Session()  # one for all threads; its pool of connections is thread-safe
        self._session.mount(
            f"{parts.scheme}://", requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=connections)
        )
        super().__init__(
            url, request_kwargs={"timeout": timeout}, session=self._session, exception_retry_configuration=None
        )
        self._url = URI(url)
        self._timeout = timeout
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

    def scrub(self, text: str) -> str:
        """``text`` without the parts of the URL that may be keys."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _hide(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.scrub(record.getMessage()), None
        return True

    def post(self, payload: bytes) -> tuple[int, float, bytes]:
        """(HTTP status, seconds of Retry-After, body), whatever the status; ``Unanswered`` if there is no whole reply
        in time.
        """
        deadline = time.monotonic() + self._timeout
        try:
            with self._request_session_manager.get_response_from_post_request(
                self._url,
                data=payload,
                headers=self.get_request_headers(),
                timeout=self._timeout,
                stream=True,
                allow_redirects=False,
            ) as response:
                chunks = []
                for chunk in response.raw.stream(_CHUNK, decode_content=True):
                    chunks.append(chunk)
                    if time.monotonic() > deadline:
                        raise Unanswered(f"no complete reply within {self._timeout:g} s", timed_out=True)
                return response.status_code, _seconds(response.headers.get("Retry-After")), b"".join(chunks)
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            raise Unanswered(f"no reply within {self._timeout:g} s", timed_out=True) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise Unanswered(f"the connection failed ({type(error).__name__})", timed_out=False) from None

    def _make_request(self, method: Any, request_data: bytes) -> bytes:
        return self.post(request_data)[2]

    @staticmethod
    def decode_rpc_response(raw_response: bytes) -> Any:
        return msgspec.json.decode(raw_response)


def _seconds(header: str | None) -> float:
    """Retry-After in seconds; the form with a date counts as unknown."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0
