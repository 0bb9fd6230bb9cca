"""How many requests may be in flight, and when the next one may be sent."""

from __future__ import annotations

import threading
import time


class Stopped(Exception):
    """The fetch was interrupted; in-flight work ends quietly."""


class Pace:
    """Shared by all threads of a client. A rate limit halves what may be in flight and makes everyone wait; answers let
    it grow again, by about one per round of answers. Many requests that meet the same limit at once count as one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._allowed = float(most)
        self._flying = 0
        self._not_before = 0.0
        self._stopped = False
        self._changed = threading.Condition()

    @property
    def allowed(self) -> int:
        """Requests that may be in flight now."""
        return max(1, int(self._allowed))

    def enter(self) -> None:
        """Wait for a place; ``Stopped`` after ``stop``."""
        with self._changed:
            while not self._stopped:
                pause = self._not_before - time.monotonic()
                if pause <= 0 and self._flying < self.allowed:
                    self._flying += 1
                    return
                self._changed.wait(pause if pause > 0 else None)
            raise Stopped

    def leave(self, answered: bool) -> None:
        """A request is over; ``answered`` where it got its reply."""
        with self._changed:
            self._flying -= 1
            if answered:
                self._allowed = min(self._most, self._allowed + 1 / self._allowed)
            self._changed.notify_all()

    def limited(self, pause: float) -> None:
        """The node asks for fewer requests: none for ``pause`` seconds."""
        with self._changed:
            now = time.monotonic()
            if now >= self._not_before:
                self._allowed = max(1.0, self._allowed / 2)
            self._not_before = max(self._not_before, now + pause)

    def sleep(self, seconds: float) -> None:
        """Wait; ``Stopped`` if that is cut short by ``stop``."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self._stopped and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._stopped:
                raise Stopped

    def stop(self) -> None:
        """Wake everyone who waits, for good."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
