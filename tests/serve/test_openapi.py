"""The OpenAPI document is what the server does: its addresses, its bodies, its answers and refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import jsonschema
import pytest

from clip_factory.encoders.wire_format import BINARY, pack_photos
from clip_factory.serve.embedding_app import application
from support.axis_encoder import AxisEncoder
from support.encoder_site import pictures, served, settings

CLIENT = httpx2.Client(verify=False, trust_env=False, timeout=30)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(AxisEncoder("red", "green", "blue")) as server:
        yield server.url


@pytest.fixture(scope="module")
def document(url: str) -> dict[str, Any]:
    return CLIENT.get(f"{url}/openapi.json").json()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def schemas(tree: Any) -> Iterator[dict[str, Any]]:
    """All schemas of a part of the document."""
    if isinstance(tree, dict):
        yield from (tree[name] for name in ("schema",) if name in tree)
        for value in tree.values():
            yield from schemas(value)


def test_every_route_is_in_it_and_nothing_else(document: dict[str, Any]) -> None:
    guard, _ = application(AxisEncoder("red", "green", "blue"), settings(), None)
    routes = {(route.path, method) for route in guard.app.routes for method in route.methods - {"HEAD"}}

    assert {(path, method) for path, method, _ in operations(document)} == routes


def test_it_has_the_form_of_openapi(document: dict[str, Any]) -> None:
    """The rules of OpenAPI 3.1.0 (sections 4.8.1 to 4.8.25) that concern what is used here."""
    assert document.keys() == {"openapi", "info", "security", "paths", "components"}
    assert document["openapi"] == "3.1.0" and document["info"].keys() >= {"title", "version"}
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for _, method, operation in operations(document):
        assert operation.keys() <= {"operationId", "summary", "responses", "requestBody", "security"}
        assert ("requestBody" in operation) == (method == "POST")
        assert all(code.isdigit() and "description" in answer for code, answer in operation["responses"].items())
        for answer in operation["responses"].values():
            assert answer.keys() <= {"description", "headers", "content"}
    for schema in (*schemas(document), *document["components"]["schemas"].values()):
        jsonschema.Draft202012Validator.check_schema(schema)
    references = {part.split('"')[0] for part in json.dumps(document).split('"$ref": "#/components/schemas/')[1:]}
    assert references == document["components"]["schemas"].keys()


def send(url: str, path: str, method: str) -> httpx2.Response:
    if method == "GET":
        return CLIENT.get(url + path)
    if "images" in path:
        return CLIENT.post(url + path, content=pack_photos(pictures(2)), headers={"Content-Type": BINARY})
    return CLIENT.post(url + path, json={"texts": ["red", "blue"]})


def test_answers_are_what_it_says(url: str, document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        answer = send(url, path, method)
        promised = operation["responses"][str(answer.status_code)]
        kind = answer.headers["Content-Type"].partition(";")[0]
        assert answer.status_code == 200 and kind in promised["content"], path
        for name, header in promised.get("headers", {}).items():
            check(answer.headers[name], header["schema"], document)
        if kind == "application/json":
            check(answer.json(), promised["content"][kind]["schema"], document)


def test_refusals_are_what_it_says(url: str, document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        if method == "POST":
            for body, kind, code in ((b"x", "text/plain", "415"), (b"", operation_kind(operation), "400")):
                answer = CLIENT.post(url + path, content=body, headers={"Content-Type": kind})
                promised = operation["responses"][code]["content"]["application/problem+json"]
                assert str(answer.status_code) == code
                check(answer.json(), promised["schema"], document)


def test_bodies_are_what_it_says(document: dict[str, Any]) -> None:
    body = document["paths"]["/v1/embed/texts"]["post"]["requestBody"]["content"]["application/json"]["schema"]

    check({"texts": ["a"] * 8}, body, document)
    with pytest.raises(jsonschema.ValidationError):
        check({"texts": ["a"] * 9}, body, document)


def operation_kind(operation: dict[str, Any]) -> str:
    return next(iter(operation["requestBody"]["content"]))


def check(value: object, schema: dict[str, Any], document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)
