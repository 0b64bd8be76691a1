"""A factory that distils CLIP labels into tiny yes/no image classifiers.

    import clip_factory

    run = clip_factory.run("forklift.yaml", images="photos/")
    run.model.predict("new_photos/")

The names below come from `clip_factory.api` when they are first used: importing the package imports nothing else.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clip_factory.api import Model, Run, Scenario, evaluate, export, label, load_run, publish, run, train, zero_shot

__version__ = "0.1.0"

__all__ = [
    "Model",
    "Run",
    "Scenario",
    "evaluate",
    "export",
    "label",
    "load_run",
    "publish",
    "run",
    "train",
    "zero_shot",
]


def __getattr__(name: str) -> Any:
    """A public name, from the API (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from clip_factory import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
