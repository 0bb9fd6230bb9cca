"""A list whose parts may be made when somebody first reads them: a sweep asks thousands of replays for their sums, and
few for their records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

T = TypeVar("T")


class Deferred(Sequence[T]):
    """In order of ``append`` and ``put_off``."""

    def __init__(self, made: Iterable[T] = ()) -> None:
        self._made = list(made)
        """What comes before all that is put off."""
        self._waiting: list[tuple[int, Callable[[], Iterable[T]]]] = []
        self._count = len(self._made)

    def append(self, item: T) -> None:
        """One more."""
        self._count += 1
        if self._waiting:
            self._waiting.append((1, lambda: (item,)))
        else:
            self._made.append(item)

    def put_off(self, count: int, make: Callable[[], Iterable[T]]) -> None:
        """``count`` more, which ``make`` makes when somebody reads the list."""
        self._count += count
        self._waiting.append((count, make))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        return self._all()[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self._all())

    def __eq__(self, other: object) -> Any:
        return self._all() == list(other) if isinstance(other, list | Deferred) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._all())

    def _all(self) -> list[T]:
        waiting, self._waiting = self._waiting, []
        for _, make in waiting:
            self._made += make()
        return self._made
