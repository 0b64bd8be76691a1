"""The seam between the stages and the machines: work over shards, in order, wherever it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from clip_factory.errors import PluginError
from clip_factory.loader_table import LoaderTable

Shard = TypeVar("Shard")
Result = TypeVar("Result")

GROUP = "clip_factory.executors"
"""Entry points of this group add executors by name; each is called without arguments."""
VARIABLE = "FACTORY_EXECUTOR"
"""The environment variable that names the executor; not set: `in-process`."""


class Executor(Protocol):
    """Runs the work of a stage. A stage does not know which one does."""

    def map(self, work: Callable[[Shard], Iterable[Result]], shards: Iterable[Shard]) -> Iterator[Result]:
        """The results of all shards, in the order of the shards.

        Args:
            work: Yields the results of one shard as they come. What it has written before it dies stays, and it does
                not write it twice when the shard is worked on again.
            shards: Plain data.
        """


ExecutorLoader = Callable[[], Executor]


def _in_process() -> Executor:
    from clip_factory.scale.in_process import InProcess

    return InProcess()


LOADERS: LoaderTable[ExecutorLoader] = LoaderTable(GROUP, {"in-process": _in_process})


def load_executor(name: str | None = None) -> Executor:
    """The executor of a name; by default the one that $FACTORY_EXECUTOR names, else this process.

    Raises:
        PluginError: There is no such executor, or its package cannot be imported.
    """
    name = name or os.environ.get(VARIABLE) or "in-process"
    loader = LOADERS.find(name)
    if loader is None:
        raise PluginError(f"{name}: no such executor", hint=f"known: {', '.join(LOADERS.names)}")
    return loader()
