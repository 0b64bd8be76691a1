"""The executor of one machine: shard after shard, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Shard = TypeVar("Shard")
Result = TypeVar("Result")


class InProcess:
    """An `Executor` that works when it is asked for the next result, and holds none."""

    def map(self, work: Callable[[Shard], Iterable[Result]], shards: Iterable[Shard]) -> Iterator[Result]:
        """The results of all shards, in order."""
        for shard in shards:
            yield from work(shard)
