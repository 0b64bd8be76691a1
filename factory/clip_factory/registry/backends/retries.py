"""How long back-ends are patient: with a service that is busy or away, and with other writers that are faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeVar

import tenacity

from clip_factory.errors import RegistryError

T = TypeVar("T")
BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP codes of a service that may answer later."""
ATTEMPTS = tenacity.stop_after_attempt(5)
BACKOFF = tenacity.wait_exponential(multiplier=1)
"""1, 2, 4 and 8 seconds between the attempts at one call."""
MAX_COMMITS = 50
"""How often a commit is tried while others are faster."""


class ConflictError(Exception):
    """Somebody else has committed since the state was read: read it again."""


def until_committed(where: str, sleep: Callable[[float], None], attempt: Callable[[], T]) -> T:
    """Call `attempt` until it raises no `ConflictError`, with a longer and longer random wait between.

    Args:
        where: What is written to, for the message.
        sleep: Waits some seconds.
        attempt: Reads the state, changes it, and commits the change.

    Returns:
        What `attempt` returns.

    Raises:
        RegistryError: Others were faster every time; or as `attempt`.
    """

    def raise_outpaced(state: tenacity.RetryCallState) -> NoReturn:
        raise RegistryError(
            f"{where}: others write to it all the time; nothing was changed", hint="try again in a while"
        )

    return tenacity.Retrying(
        sleep=sleep,
        stop=tenacity.stop_after_attempt(MAX_COMMITS),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=2.0),
        retry=tenacity.retry_if_exception_type(ConflictError),
        retry_error_callback=raise_outpaced,
    )(attempt)
