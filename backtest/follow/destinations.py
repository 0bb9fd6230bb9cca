"""Where alerts go: standard output, a command, a webhook of this machine. Each destination has a thread and a cursor of
its own, so that one that is slow or fails holds up nothing else.

An alert is handed over again only where the process ended, or the destination failed, while it was being handed over;
then it is marked, and its id is the same.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from backtest.errors import UserError
from backtest.follow.outbox import Cursor, Outbox
from backtest.foreign import shown

Send = Callable[[bytes, bool], str | None]
"""Hands one line over; whether it may have come before. What went wrong, or None."""
SECONDS = 30.0
"""How long a command or a webhook may take."""
_FIRST, _LAST = 0.1, 30.0


def to_stdout(line: bytes, again: bool) -> str | None:
    """A line on standard output."""
    sys.stdout.buffer.write(_marked(line, again))
    sys.stdout.buffer.flush()
    return None


def to_command(command: str) -> Send:
    """A program, started for every alert, which gets it on standard input; exit code 0 means that it has it. UserError
    for a command that cannot be split into words.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"--exec {shown(command, 80)}: {error}", "quote it as a shell would") from None
    if not words:
        raise UserError("--exec names no command", "give a program and its arguments")

    def send(line: bytes, again: bool) -> str | None:
        try:
            done = subprocess.run(
                words,
                input=_marked(line, again),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=SECONDS,
                env={**os.environ, "BACKTEST_AGAIN": "1" if again else "0"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{words[0]} did not end within {SECONDS:g} s"
        except OSError as error:
            return f"{words[0]} cannot be started: {error.strerror}"
        if done.returncode:
            said = shown(done.stderr.decode(errors="replace").strip(), 200)
            return f"{words[0]} ended with {done.returncode}{': ' if said else ''}{said}"
        return None

    return send


def to_webhook(url: str) -> Send:
    """An HTTP server of this machine, which gets each alert as the body of a POST; a status of 2xx means that it has
    it. UserError for an address that is not of this machine.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
    except ValueError:
        raise UserError("--webhook is no address", "give http://127.0.0.1:PORT/PATH") from None
    if parts.scheme != "http" or not _loopback(host):
        raise UserError(
            f"--webhook {shown(host, 60)} is not this machine",
            "give http://127.0.0.1:PORT/PATH; what sends alerts further can listen there",
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def send(line: bytes, again: bool) -> str | None:
        connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
        try:
            headers = {"Content-Type": "application/json", "X-Backtest-Again": "1" if again else "0"}
            connection.request("POST", path, _marked(line, again), headers)
            reply = connection.getresponse()
            reply.read(1 << 16)
            return None if 200 <= reply.status < 300 else f"the webhook answered {reply.status}"
        except (OSError, http.client.HTTPException) as error:
            return f"the webhook cannot be reached ({type(error).__name__})"
        finally:
            connection.close()

    return send


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _marked(line: bytes, again: bool) -> bytes:
    return line[:-2] + b',"again":true}\n' if again else line


class Destination:
    """Hands the alerts of an outbox over, in order, on a thread of its own. ``note`` is told what goes wrong."""

    def __init__(self, outbox: Outbox, name: str, send: Send, note: Callable[[str], None]) -> None:
        self.name = name
        self._cursor = Cursor(outbox.folder, name, outbox.alerts)
        self._outbox, self._send, self._note = outbox, send, note
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"alerts to {name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Alerts that it does not have yet."""
        return self._outbox.alerts - self._cursor.done

    def wake(self) -> None:
        """There may be more."""
        self._wake.set()

    def close(self, seconds: float) -> int:
        """End, once everything is handed over or this time is over; how many alerts are left for the next start."""
        deadline = threading.Event()
        while self.waiting and self._thread.is_alive() and seconds > 0:
            self.wake()
            deadline.wait(0.02)
            seconds -= 0.02
        self._stop.set()
        self.wake()
        self._thread.join(SECONDS + 1)
        left = self.waiting
        self._cursor.close()
        return left

    def _run(self) -> None:
        number = 0
        for line in self._outbox.lines():
            if line is None:
                self._wake.wait()
                self._wake.clear()
                if self._stop.is_set():
                    return
                continue
            number += 1
            if number > self._cursor.done and not self._hand_over(line):
                return

    def _hand_over(self, line: bytes) -> bool:
        cursor, pause, said = self._cursor, _FIRST, None
        again = cursor.trying
        while not self._stop.is_set():
            cursor.put(cursor.done, trying=True)
            try:
                wrong = self._send(line, again)
            except BrokenPipeError:
                self._note(f"{self.name}: nobody reads it any more")
                return False
            if wrong is None:
                cursor.put(cursor.done + 1, trying=False)
                return True
            again = True
            if wrong != said:
                self._note(f"{self.name}: {wrong}; it is tried again")
                said = wrong
            self._stop.wait(pause)
            pause = min(2 * pause, _LAST)
        return False
