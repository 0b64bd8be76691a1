"""An encoder on another machine, `teacher: {model: "https://gpu.example"}`; `factory encoders serve` serves it there.

Nothing here needs torch. What a server answers is kept in the user's own store under the key of the server's encoder,
as if it had been computed here; a server that goes away is waited for, and what was stored is never asked for again.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import tenacity
from PIL import Image

from clip_factory import __version__
from clip_factory.encoders.wire_format import (
    BINARY,
    BODY_BYTES,
    ENCODER,
    IMAGES,
    KEY_HEADER,
    TEXTS,
    TOKEN_VARIABLE,
    WORDS,
    EncoderFacts,
    WireError,
    pack_photos,
    packed_bytes,
    unpack_vectors,
)
from clip_factory.errors import TeacherError
from clip_factory.progress import console
from clip_factory.scenario import Teacher

INSECURE_VARIABLE = "FACTORY_ENCODER_INSECURE"
"""The environment variable that, set to 1, allows the token to travel in the clear."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
BUSY = frozenset({408, 429, 502, 503, 504})
"""HTTP codes of a server that may answer later."""
FIRST_PATIENCE, PATIENCE = 10.0, 600.0
"""Seconds that a server is waited for that has not answered yet, and one that has."""
MAX_WAIT = 30.0
"""Seconds between two attempts, unless the server asks for more."""
SILENCE = 60.0
"""Seconds that an answer may take, beyond those that the server allows itself."""
CONNECT_SECONDS = 10.0
CONNECTIONS = 4
"""Requests on their way at once, so that the server embeds one while others travel."""
PHOTOS = 32
"""Of a request, unless the server allows fewer."""
MAX_JSON = 1_000_000
"""Bytes of an answer that is no vectors."""


@dataclass(frozen=True)
class HttpEncoder:
    """An encoder behind an address; an `Encoder`. Can be pickled: it holds no connection and no token."""

    base: str
    facts: EncoderFacts

    @property
    def name(self) -> str:
        """What the server's users call it: the same as if it were loaded here."""
        return self.facts.name

    @property
    def key(self) -> str:
        """That of the server's encoder."""
        return self.facts.key

    @property
    def license(self) -> str:
        """Of the weights."""
        return self.facts.license

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.facts.dim

    @property
    def image_size(self) -> int:
        """Side in pixels that its image tower sees."""
        return self.facts.image_size

    @property
    def logit_scale(self) -> float:
        """That of the server's encoder."""
        return self.facts.logit_scale

    @property
    def logit_bias(self) -> float:
        """That of the server's encoder."""
        return self.facts.logit_bias

    @property
    def about(self) -> dict[str, object]:
        """What the server's encoder says of itself."""
        return dict(self.facts.about)

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """N RGB images to float32 `(N, D)`, L2-normalized.

        Raises:
            TeacherError: The server refuses them, stays away, or is another encoder's now.
        """
        self._check_pixels(images)
        parts = list(_parts(images, min(PHOTOS, self.facts.limits.photos), min(BODY_BYTES, self.facts.limits.bytes)))
        stopped, pool = Event(), ThreadPoolExecutor(CONNECTIONS)
        try:
            return self._joined(list(pool.map(lambda part: self._embed_part(part, stopped), parts)))
        finally:  # one part has failed, or Ctrl-C was pressed: the others are not asked for again
            stopped.set()
            pool.shutdown(cancel_futures=True)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """P texts to float32 `(P, D)`, L2-normalized.

        Raises:
            TeacherError: As of `embed_images`.
        """
        return self._joined([self._embed_text_part(part) for part in self._text_parts(texts)])

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the tokenizer does not know."""
        return [str(word) for word in self._checked(text)["unknown_words"]]

    def is_truncated(self, text: str) -> bool:
        """Whether the network does not see the end of a text."""
        return bool(self._checked(text)["is_truncated"])

    def _check_pixels(self, images: Sequence[Image.Image]) -> None:
        limit = self.facts.limits
        for image in images:
            if image.width * image.height > limit.pixels or 4 + packed_bytes(image) > limit.bytes:
                raise TeacherError(
                    f"teacher {self.base}: a photo of {image.width} x {image.height} is over the server's limit of "
                    f"{limit.pixels:,} pixels and {limit.bytes:,} bytes",
                    hint="start the server with a higher --max-megapixels, or take the photo out",
                )

    def _embed_part(self, images: Sequence[Image.Image], stopped: Event) -> np.ndarray:
        return self._vectors(_Request(IMAGES, pack_photos(images), BINARY), len(images), stopped)

    def _embed_text_part(self, texts: Sequence[str]) -> np.ndarray:
        return self._vectors(_text_request(TEXTS, texts), len(texts), Event())

    def _vectors(self, request: _Request, count: int, stopped: Event) -> np.ndarray:
        answer = self._answer(replace(request, max_bytes=4 * count * self.dim), stopped)
        try:
            return unpack_vectors(answer.body, count, self.dim)
        except WireError as error:
            raise _no_encoder(self.base, error) from None

    def _answer(self, request: _Request, stopped: Event) -> _Answer:
        answer = _ask(self.base, request, _Patience(PATIENCE, self.facts.limits.seconds + SILENCE, stopped))
        key = answer.headers.get(KEY_HEADER)
        if key != self.key:
            raise TeacherError(
                f"teacher {self.base}: it was the encoder {self.key}, and is {key or 'none'!s:.100} now",
                hint="vectors of two encoders do not mix; give the same command again to label with the new one",
            )
        return answer

    def _joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)

    def _text_parts(self, texts: Sequence[str]) -> Iterator[list[str]]:
        size = self.facts.limits.texts
        for start in range(0, len(texts), size):
            yield list(texts[start : start + size])

    def _checked(self, text: str) -> dict[str, Any]:
        answer = self._answer(_text_request(WORDS, [text]), Event())
        try:
            checked = json.loads(answer.body)["texts"][0]
            return {"unknown_words": list(checked["unknown_words"]), "is_truncated": checked["is_truncated"]}
        except (ValueError, TypeError, LookupError) as error:
            raise _no_encoder(self.base, error) from None


def connect(teacher: Teacher) -> HttpEncoder:
    """The encoder behind an address.

    Raises:
        TeacherError: It is no address, it does not answer, or what answers is no encoder's server.
    """
    base = _checked_address(teacher.model)
    answer = _ask(base, _Request(ENCODER), _Patience(FIRST_PATIENCE, SILENCE, Event()))
    try:
        facts = EncoderFacts.from_json(json.loads(answer.body))
    except (ValueError, RecursionError) as error:
        raise _no_encoder(base, error) from None
    return HttpEncoder(base, facts)


@dataclass(frozen=True)
class _Request:
    path: str
    body: bytes | None = None
    """What is posted; None for a GET."""
    kind: str = ""
    """Media type of the body."""
    max_bytes: int = MAX_JSON
    """Bytes that the answer may have."""


@dataclass(frozen=True)
class _Patience:
    all_attempts: float
    """Seconds after which the server is given up."""
    one_answer: float
    """Seconds that an answer may take."""
    stopped: Event
    """Set when nobody waits any more."""


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    headers: httpx2.Headers

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks to wait; None where it does not say."""
        seconds = self.headers.get("Retry-After", "")
        return float(seconds) if re.fullmatch(r"\d{1,6}", seconds) else None

    @property
    def detail(self) -> str:
        """What a refusal says in words (RFC 9457)."""
        try:
            return str(json.loads(self.body)["detail"])[:500]
        except (ValueError, TypeError, LookupError, RecursionError):
            return f"HTTP {self.status}"


def _checked_address(model: str) -> str:
    """The address that a scenario names, without a slash at its end."""
    try:
        parts = urlsplit(model)
        secret, named = parts.username is not None or parts.password is not None, bool(parts.hostname)
        _ = parts.port  # raises where it is none
    except ValueError:
        secret, named = False, False
    if secret:
        raise TeacherError(
            "teacher: an address with a user or a password: scenarios hold no secrets",
            hint=f"name the address alone, and put the server's token into ${TOKEN_VARIABLE}",
        )
    if not named or parts.query or parts.fragment:
        raise TeacherError(f"teacher {model}: no address of a server", hint="such as: http://127.0.0.1:8600")
    return model.rstrip("/")


def _authorization(base: str) -> dict[str, str]:
    """The header with the token, read anew for each request: it is kept nowhere."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        return {}
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise TeacherError(f"${TOKEN_VARIABLE} holds no token: letters, digits and signs, without spaces")
    parts = urlsplit(base)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK and os.environ.get(INSECURE_VARIABLE) != "1":
        raise TeacherError(
            f"teacher {base}: not https, and the token must not travel in the clear",
            hint="see docs/remote_encoder.md for https or a tunnel; in a network that nobody listens to, "
            f"{INSECURE_VARIABLE}=1 allows it",
        )
    return {"Authorization": f"Bearer {token}"}


def _ask(base: str, request: _Request, patience: _Patience) -> _Answer:
    """The answer to a request, asked for again while the server is busy or away.

    Args:
        base: Address of the server.
        request: What is asked.
        patience: How long it is waited for.

    Raises:
        TeacherError: The server refuses, stays away, or answers otherwise than an encoder's server does.
    """
    retrying = tenacity.Retrying(
        sleep=tenacity.sleep_using_event(patience.stopped),
        stop=tenacity.stop_after_delay(patience.all_attempts) | tenacity.stop_when_event_set(patience.stopped),
        wait=_wait,
        retry=tenacity.retry_if_exception_type(httpx2.TransportError) | tenacity.retry_if_result(_is_busy),
        before_sleep=lambda state: _announce(base, state),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    try:
        answer: _Answer = retrying(_send, base, request, patience.one_answer)
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        raise _away(base, str(error) or type(error).__name__) from None
    if answer.status != 200:
        raise _refusal(base, answer)
    return answer


def _send(base: str, request: _Request, seconds: float) -> _Answer:
    method = "GET" if request.body is None else "POST"
    headers = _authorization(base) | ({} if request.body is None else {"Content-Type": request.kind})
    times = httpx2.Timeout(seconds, connect=CONNECT_SECONDS)
    made = _client().build_request(method, base + request.path, content=request.body, headers=headers, timeout=times)
    with closing(_client().send(made, stream=True, follow_redirects=False)) as response:
        limit = request.max_bytes if response.status_code == 200 else MAX_JSON
        content = bytearray()
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > limit:
                raise TeacherError(f"teacher {base}: an answer of more than the {limit:,} bytes expected")
        return _Answer(response.status_code, bytes(content), response.headers)


@cache
def _client() -> httpx2.Client:
    """The connections of this process. No proxy stands between a machine and itself."""
    direct: dict[str, Any] = dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]"))
    agent = {"Accept-Encoding": "identity", "User-Agent": f"clip-factory/{__version__}"}
    try:
        return httpx2.Client(mounts=direct, headers=agent)
    except (ImportError, OSError, ValueError, httpx2.InvalidURL) as error:
        hint = "check HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
        raise TeacherError(f"no connection can be made with these settings ({error})", hint=hint) from None


def _is_busy(answer: _Answer) -> bool:
    return answer.status in BUSY


_BACKOFF = tenacity.wait_random_exponential(multiplier=0.5, max=MAX_WAIT)
_JITTER = tenacity.wait_random(0, 1)
"""Added to what a server asks for: clients that were refused together do not come back together."""


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds before the next attempt: what the server asks for, and at least the usual."""
    answer = None if state.outcome is None or state.outcome.failed else state.outcome.result()
    asked = answer.retry_after if isinstance(answer, _Answer) else None
    return _BACKOFF(state) if asked is None else min(asked, PATIENCE) + _JITTER(state)


_announced: dict[str, float] = {}


def _announce(base: str, state: tenacity.RetryCallState) -> None:
    """Say that a server is waited for, now and then: an answer that takes three attempts is no news."""
    now = time.monotonic()
    if state.attempt_number < 3 or now - _announced.get(base, -np.inf) < 60:
        return
    _announced[base] = now
    outcome = state.outcome
    why = "does not answer" if outcome is None or outcome.failed else f"is busy (HTTP {outcome.result().status})"
    console.print(f"teacher {base} {why}; it is asked again", style="yellow", markup=False)


def _away(base: str, reason: str) -> TeacherError:
    hint = "start it there: factory encoders serve; what was embedded is kept, and the same command goes on from it"
    if "WRONG_VERSION_NUMBER" in reason:
        hint = "what answers there speaks no https: name it http://..., or put the proxy before it that does"
    return TeacherError(f"teacher {base}: cannot be reached ({reason})", hint=hint)


def _refusal(base: str, answer: _Answer) -> TeacherError:
    if answer.status in (401, 403):
        hint = f"put the server's token into ${TOKEN_VARIABLE}"
        return TeacherError(f"teacher {base}: {answer.detail}", hint=hint)
    if answer.status in BUSY:
        return _away(base, f"busy all the time: {answer.detail}")
    return TeacherError(
        f"teacher {base}: refuses ({answer.status}): {answer.detail}", hint="is it an encoder's server?"
    )


def _no_encoder(base: str, error: Exception) -> TeacherError:
    reason = str(error) if isinstance(error, WireError) else "it answers something else"
    return TeacherError(
        f"teacher {base}: no encoder's server that is understood here: {reason}",
        hint="both sides need the same version of clip-factory",
    )


def _parts(images: Sequence[Image.Image], count: int, size: int) -> Iterator[list[Image.Image]]:
    """The images in requests of at most so many, and so many bytes unless one alone has more."""
    part: list[Image.Image] = []
    taken = 4
    for image in images:
        if part and (len(part) == count or taken + packed_bytes(image) > size):
            yield part
            part, taken = [], 4
        part.append(image)
        taken += packed_bytes(image)
    if part:
        yield part


def _text_request(path: str, texts: Sequence[str]) -> _Request:
    return _Request(path, json.dumps({"texts": list(texts)}).encode(), "application/json")
