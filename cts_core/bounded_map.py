"""A mapping and a set of bounded size, for caches and for keys that clients choose."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from typing import Generic, TypeVar

from typing_extensions import override

K = TypeVar("K")
V = TypeVar("V")


class BoundedMap(MutableMapping[K, V]):
    """Evicts what was set longest ago as soon as it holds more than ``limit`` entries.

    Reading does not change the order; call ``touch`` on every use, and the map evicts what was used longest ago (LRU).
    With ``weigh``, which must always return the same for one value, the limit is one on the sum of the weights.
    """

    def __init__(self, limit: int, *, weigh: Callable[[V], int] = lambda _: 1) -> None:
        self._limit = limit
        self._weigh = weigh
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._weight = 0

    @override
    def __getitem__(self, key: K) -> V:
        return self._entries[key]

    @override
    def __setitem__(self, key: K, value: V) -> None:
        if key in self._entries:
            del self[key]
        self._entries[key] = value
        self._weight += self._weigh(value)
        while self._weight > self._limit:
            del self[next(iter(self._entries))]

    @override
    def __delitem__(self, key: K) -> None:
        self._weight -= self._weigh(self._entries.pop(key))

    @override
    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    @override
    def __len__(self) -> int:
        return len(self._entries)

    def touch(self, key: K) -> None:
        """Make the key the last one to be evicted. Raises KeyError."""
        self._entries.move_to_end(key)


class BoundedSet(Generic[K]):
    """Evicts the member that was added longest ago as soon as it holds more than ``limit``."""

    def __init__(self, limit: int) -> None:
        self._members: BoundedMap[K, None] = BoundedMap(limit)

    def __contains__(self, member: K) -> bool:
        return member in self._members

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: K) -> bool:
        """Add a member and return whether it is new. One that is not keeps its age."""
        if member in self._members:
            return False
        self._members[member] = None
        return True
