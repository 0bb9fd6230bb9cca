"""How many requests may be in flight, and when the next one may be sent."""

from __future__ import annotations

import threading
import time


class Stopped(Exception):
    """The fetch was interrupted; in-flight work ends quietly."""


class Pace:
    """Shared by all threads of a client. A rate limit halves what may be in flight and makes everyone wait; answers let
    it grow again, by about one per round of answers. Many requests that meet the same limit at once count as one.

    ``rate``: requests per second at most, evenly spaced; None where there is no such limit.
    """

    def __init__(self, most: int, rate: float | None = None) -> None:
        self._most = most
        self._spacing = 0.0 if rate is None else 1 / rate
        self._allowed = float(most)
        self._flying = 0
        self._not_before = 0.0
        self._next = 0.0
        self._stopped = False
        self._changed = threading.Condition()

    @property
    def allowed(self) -> int:
        """Requests that may be in flight now."""
        return max(1, int(self._allowed))

    @property
    def pause(self) -> float:
        """Seconds until the next request may be sent."""
        return max(0.0, max(self._not_before, self._next) - time.monotonic())

    def enter(self) -> None:
        """Wait for a place; ``Stopped`` after ``stop``."""
        with self._changed:
            while not self._stopped:
                pause = self.pause
                if pause <= 0 and self._flying < self.allowed:
                    self._flying += 1
                    if self._spacing:
                        self._next = max(self._next, time.monotonic() - self._spacing) + self._spacing
                    return
                self._changed.wait(pause if pause > 0 else None)
            raise Stopped

    def spent(self) -> None:
        """A request was sent that did not wait for its place; it counts for the rate."""
        with self._changed:
            if self._spacing:
                self._next = max(self._next, time.monotonic()) + self._spacing

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
