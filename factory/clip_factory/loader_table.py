"""Names to what they load: a room's own members, and those that other packages add by entry points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar, cast

from clip_factory.errors import PluginError

Loader = TypeVar("Loader", bound=Callable[..., object])


@dataclass(frozen=True)
class LoaderTable(Generic[Loader]):
    """The loaders of one seam, by name.

    A loader is a small function that imports what it needs when it is called. Another package adds one with an entry
    point of `group`; a name of the factory's own cannot be replaced.
    """

    group: str
    """Entry-point group, such as `clip_factory.encoders`."""
    own: Mapping[str, Loader]
    """The factory's own loaders."""

    @property
    def names(self) -> list[str]:
        """All known names: the factory's own first, then those of installed packages, sorted."""
        return [*self.own, *sorted(self._added().keys() - self.own.keys())]

    def find(self, name: str) -> Loader | None:
        """The loader of a name, or None where no one has it.

        Raises:
            PluginError: The package that has it cannot be imported, or names something that is no loader.
        """
        if name in self.own:
            return self.own[name]
        point = self._added().get(name)
        return None if point is None else self._loaded(point)

    def _added(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _loaded(self, point: EntryPoint) -> Loader:
        package = point.dist.name if point.dist else point.module
        mend = f"mend or uninstall {package}, which adds {point.name!r} to {self.group}"
        try:
            loader = point.load()
        except Exception as error:  # whatever another package's import raises
            reason = f"{type(error).__name__}: {error}"
            raise PluginError(
                f"{point.name}: the package {package} cannot be imported ({reason})", hint=mend
            ) from error
        if not callable(loader):
            raise PluginError(f"{point.name}: {point.value} of the package {package} cannot be called", hint=mend)
        return cast(Loader, loader)
