"""What is made when somebody first reads it: a sweep asks thousands of replays for their sums, and few for their
records. And what copies share as long as none changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


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


class DeferredMapping(Mapping[K, T]):
    """What ``make`` makes when somebody reads it."""

    def __init__(self, make: Callable[[], dict[K, T]]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> dict[K, T]:
        return self._make()

    def __getitem__(self, key: K) -> T:
        return self._made[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def __reduce__(self) -> tuple[type[dict[K, T]], tuple[dict[K, T]]]:
        return dict, (self._made,)


class SharedNumbers(Generic[K]):
    """SharedNumbers by key, 0 where none was given; copies share what was given before them."""

    def __init__(self) -> None:
        self._under: dict[K, int] = {}
        """Of all copies: never changed."""
        self._own: dict[K, int] = {}

    def copy(self) -> SharedNumbers[K]:
        """Independent of this one."""
        if self._own:
            self._under = {**self._under, **self._own} if self._under else self._own
            self._own = {}
        made = SharedNumbers[K]()
        made._under = self._under
        return made

    def __getitem__(self, key: K) -> int:
        found = self._own.get(key)
        return self._under.get(key, 0) if found is None else found

    def __setitem__(self, key: K, value: int) -> None:
        self._own[key] = value

    def update(self, given: Iterable[tuple[K, int]]) -> None:
        """Several."""
        self._own.update(given)
