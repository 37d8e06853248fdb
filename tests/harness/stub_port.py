"""A port for the tests of observability."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cts_core.errors import PathNotFoundError


class Port:
    """A port whose calls fail as a test sets."""

    colour = "blue"

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.released = False
        self.is_empty = False

    async def ask(self, value: int, *, more: int = 0) -> int:
        if self.error:
            raise self.error
        return value + more

    async def many(self) -> list[object]:
        return [PathNotFoundError("no a/b"), self.error]

    async def read(self) -> AsyncIterator[bytes]:
        try:
            if self.is_empty:
                return
            yield b"a"
            if self.error:
                raise self.error
            yield b"b"
        finally:
            self.released = True
