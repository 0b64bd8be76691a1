"""The errors that the runtime can raise, and the root of the project's error tree.

They live here, not in `clip_factory.errors`, because the runtime imports nothing else of the factory.
"""


class FactoryError(Exception):
    """What is wrong, in words a user can act on.

    Args:
        what: What is wrong and with which thing.
        hint: What to do next; printed on a line of its own.
    """

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n  {self.hint}" if self.hint else self.what


class ImageError(FactoryError):
    """One image cannot be read; the others are not affected."""


class ModelError(FactoryError):
    """The model file is not one that this runtime can trust or run."""


class RegistryError(FactoryError):
    """A registry cannot be reached, lacks what is asked for, or holds what cannot be trusted."""


class OfflineWarning(UserWarning):
    """A registry does not answer, and what was fetched before is used in its place."""
