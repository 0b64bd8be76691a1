"""The expressions of workflow files, `${{ ... }}`, evaluated as GitHub documents them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

TOKEN = re.compile(r"\s*(?:('(?:[^']|'')*')|(-?\d+(?:\.\d+)?)|([A-Za-z_][\w-]*)|(&&|\|\||[=!<>]=|[!<>()\[\].,*]))")
WHOLE = re.compile(r"\s*\$\{\{((?:(?!\}\}).)*)\}\}\s*", re.DOTALL)
PART = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
WORDS = {"true": True, "false": False, "null": None}
ORDER = (("||",), ("&&",), ("==", "!="), ("<", "<=", ">", ">="))


@dataclass(frozen=True)
class Filter:
    """What `.*` gives: the next step is taken in each."""

    values: list


class Expression:
    """One expression, read from left to right."""

    def __init__(self, text: str, contexts: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> None:
        self.tokens = [next(group for group in match if group) for match in _tokens(text)]
        self.contexts, self.functions = contexts, {name.lower(): function for name, function in functions.items()}

    def value(self) -> Any:
        found = self._binary(0)
        assert not self.tokens, f"left over: {self.tokens}"
        return found.values if isinstance(found, Filter) else found

    def _next(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def _take(self, wanted: str = "") -> str:
        token = self.tokens.pop(0)
        assert not wanted or token == wanted, f"expected {wanted}, not {token}"
        return token

    def _binary(self, level: int) -> Any:
        if level == len(ORDER):
            return self._unary()
        left = self._binary(level + 1)
        while self._next() in ORDER[level]:
            sign, right = self._take(), self._binary(level + 1)
            left = _apply(sign, left, right)
        return left

    def _unary(self) -> Any:
        if self._next() == "!":
            self._take()
            return not truth(self._unary())
        return self._postfix(self._primary())

    def _primary(self) -> Any:
        token = self._take()
        if token == "(":
            found = self._binary(0)
            self._take(")")
            return found
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        if re.fullmatch(r"-?\d+(\.\d+)?", token):
            return float(token)
        if token in WORDS:
            return WORDS[token]
        if self._next() == "(":
            return self._call(token)
        return self.contexts[token]  # a context that is not there is a mistake in the workflow

    def _call(self, name: str) -> Any:
        self._take("(")
        arguments = []
        while self._next() != ")":
            found = self._binary(0)
            arguments.append(found.values if isinstance(found, Filter) else found)
            if self._next() == ",":
                self._take()
        self._take(")")
        return (FUNCTIONS | self.functions)[name.lower()](*arguments)

    def _postfix(self, value: Any) -> Any:
        while self._next() in (".", "["):
            if self._take() == "[":
                key = self._binary(0)
                self._take("]")
            else:
                key = self._take()
            if key == "*":
                value = Filter(list(value.values()) if isinstance(value, dict) else list(value or []))
            elif isinstance(value, Filter):
                value = Filter([_member(one, key) for one in value.values])
            else:
                value = _member(value, key)
        return value


def _tokens(text: str) -> list[tuple[str, ...]]:
    assert TOKEN.sub("", text).strip() == "", f"not understood: {TOKEN.sub('', text)}"
    return TOKEN.findall(text)


def _member(value: Any, key: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get(key)
    return value[int(key)] if isinstance(value, list) and isinstance(key, float) and int(key) < len(value) else None


def _apply(sign: str, left: Any, right: Any) -> Any:
    if sign == "&&":
        return right if truth(left) else left
    if sign == "||":
        return left if truth(left) else right
    if isinstance(left, str) and isinstance(right, str):
        left, right = left.lower(), right.lower()
    elif type(left) is not type(right):
        left, right = _number(left), _number(right)
    return {
        "==": lambda: left == right,
        "!=": lambda: left != right,
        "<": lambda: left < right,
        "<=": lambda: left <= right,
        ">": lambda: left > right,
        ">=": lambda: left >= right,
    }[sign]()


def _number(value: Any) -> float:
    if value is None or value == "":
        return 0.0
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def truth(value: Any) -> bool:
    """Whether a value counts as true: lists and objects always do."""
    return value not in (None, False, 0, 0.0, "") if not isinstance(value, list | dict) else True


def text(value: Any) -> str:
    """A value where a text is wanted."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, indent=2)


def _contains(where: Any, what: Any) -> bool:
    if isinstance(where, list):
        return any(_apply("==", one, what) for one in where)
    return text(what).lower() in text(where).lower()


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "contains": _contains,
    "startswith": lambda where, what: text(where).lower().startswith(text(what).lower()),
    "endswith": lambda where, what: text(where).lower().endswith(text(what).lower()),
    "format": lambda form, *values: re.sub(r"\{(\d+)\}", lambda m: text(values[int(m[1])]), form),
    "join": lambda values, sign=",": sign.join(map(text, values)) if isinstance(values, list) else text(values),
    "tojson": lambda value: json.dumps(value, indent=2),
    "fromjson": json.loads,
}


def evaluate(
    source: Any, contexts: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]] | None = None
) -> Any:
    """A value of a workflow file with its expressions evaluated, also inside lists and objects."""
    more = functions or {}
    if isinstance(source, Mapping):
        return {key: evaluate(value, contexts, more) for key, value in source.items()}
    if isinstance(source, list):
        return [evaluate(value, contexts, more) for value in source]
    if not isinstance(source, str):
        return source
    if whole := WHOLE.fullmatch(source):
        return Expression(whole[1], contexts, more).value()
    return PART.sub(lambda part: text(Expression(part[1], contexts, more).value()), source)


def condition(source: Any, contexts: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> bool:
    """An `if:`, which asks for success unless it names a function of status itself."""
    bare = str(source).strip() if source is not None else "success()"
    whole = WHOLE.fullmatch(bare)
    bare = whole[1] if whole else bare
    if not re.search(r"\b(success|failure|cancelled|always)\s*\(", bare):
        bare = f"success() && ({bare})"
    return truth(Expression(bare, contexts, functions).value())
