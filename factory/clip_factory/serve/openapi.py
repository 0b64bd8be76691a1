"""The server's addresses in OpenAPI 3.1, kept by hand: a test holds it to the routes and to what they answer."""

from __future__ import annotations

from typing import Any

from clip_factory.encoders.wire_format import (
    BINARY,
    ENCODER,
    IMAGES,
    KEY_HEADER,
    PROTOCOL,
    SHAPE_HEADER,
    TEXTS,
    WORDS,
    Limits,
)

PROBLEM = {"$ref": "#/components/schemas/Problem"}
TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 1}
REFUSALS = {
    "400": "The body is not what it should be.",
    "401": "The token is missing or another.",
    "403": "There is no token, and the request comes from elsewhere.",
    "408": "The body comes too slowly.",
    "411": "The body comes without its length.",
    "413": "The body or a photo is over the limit; the detail says which.",
    "415": "The body is of another type, or compressed.",
    "429": "Too much waits already: come again after the seconds in Retry-After.",
    "500": "The encoder itself has failed.",
    "503": "No answer in time, or the server ends: come again after the seconds in Retry-After.",
}
WAITING = ("429", "503")
"""Refusals that come with Retry-After."""


IMAGES_TEXT = (
    "Photos to vectors. The body: unsigned 32-bit numbers, little-endian: the count, then width and height of each; "
    "then the pixels of each, RGB, 8 bits, row after row."
)
WORDS_TEXT = "What the tokenizer knows of texts."
PROBLEM_SCHEMA = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["title", "status", "detail"],
    "properties": {"title": TEXT, "status": {"type": "integer"}, "detail": TEXT},
}
ENCODER_SCHEMA = {
    "type": "object",
    "required": [
        *("name", "key", "license", "dim", "image_size", "logit_scale", "logit_bias"),
        *("about", "limits", "protocol", "rules"),
    ],
    "properties": {
        "name": TEXT,
        "key": {**TEXT, "description": "Changes with whatever changes the vectors."},
        "license": {**TEXT, "description": "Of the weights."},
        "dim": {**COUNT, "description": "Length of a vector."},
        "image_size": {**COUNT, "description": "Side in pixels of the square that the image tower sees."},
        "logit_scale": {"type": "number"},
        "logit_bias": {"type": "number"},
        "about": {"type": "object"},
        "limits": {
            "type": "object",
            "required": ["photos", "texts", "pixels", "bytes", "seconds"],
            "properties": {
                "photos": {**COUNT, "description": "Of one request."},
                "texts": {**COUNT, "description": "Of one request."},
                "pixels": {**COUNT, "description": "Of one photo."},
                "bytes": {**COUNT, "description": "Of one body."},
                "seconds": {**COUNT, "description": "That a request waits for its answer at most."},
            },
        },
        "protocol": {"type": "integer", "description": "Version of this document."},
        "rules": {"type": "integer", "description": "Version of the rules by which clients read pixels."},
    },
}


def document(limits: Limits) -> dict[str, Any]:
    """The OpenAPI document of a server with these limits."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "clip-factory encoder",
            "version": str(PROTOCOL),
            "description": "A dual encoder: photos and texts to vectors of one space.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}, {}],
        "paths": {
            ENCODER: {
                "get": _operation("encoder", "Which encoder it is, and what it allows.", _facts(), ("401", "403"))
            },
            IMAGES: {"post": _operation("embedImages", IMAGES_TEXT, _vectors(), REFUSALS, _photos(limits))},
            TEXTS: {"post": _operation("embedTexts", "Texts to vectors.", _vectors(), REFUSALS, _texts(limits))},
            WORDS: {"post": _operation("checkTexts", WORDS_TEXT, _checks(), REFUSALS, _texts(limits))},
            "/healthz": {"get": _open("healthy", "Whether the process answers.")},
            "/readyz": {"get": _open("ready", "Whether photos are accepted.", "503")},
            "/metrics": {"get": _operation("metrics", "Counters for Prometheus.", _plain(), ("401", "403"))},
            "/openapi.json": {
                "get": {**_open("openapi", "This document."), "responses": {"200": _json({"type": "object"})}}
            },
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Encoder": ENCODER_SCHEMA, "Problem": PROBLEM_SCHEMA},
        },
    }


def _operation(
    name: str, summary: str, answer: dict[str, Any], refusals: Any, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    made = {"operationId": name, "summary": summary, "responses": {"200": answer, **_refusals(refusals)}}
    return made if body is None else {**made, "requestBody": {"required": True, "content": body}}


def _open(name: str, summary: str, *refusals: str) -> dict[str, Any]:
    """An address that asks for no token."""
    return {**_operation(name, summary, _plain(), refusals), "security": []}


def _refusals(codes: Any) -> dict[str, Any]:
    return {
        code: {
            "description": REFUSALS[code],
            "content": {"application/problem+json": {"schema": PROBLEM}},
            **({"headers": {"Retry-After": {"schema": COUNT}}} if code in WAITING else {}),
        }
        for code in codes
    }


def _facts() -> dict[str, Any]:
    return _json({"$ref": "#/components/schemas/Encoder"}) | {"headers": {KEY_HEADER: {"schema": TEXT}}}


def _vectors() -> dict[str, Any]:
    shape = {"schema": {**TEXT, "pattern": r"^\d+,\d+$"}, "description": "N,D"}
    return {
        "description": "float32 (N, D), little-endian, row after row; each row has length 1.",
        "headers": {KEY_HEADER: {"schema": TEXT}, SHAPE_HEADER: shape},
        "content": {BINARY: {}},
    }


def _checks() -> dict[str, Any]:
    properties = {"unknown_words": {"type": "array", "items": TEXT}, "is_truncated": {"type": "boolean"}}
    one = {"type": "object", "required": list(properties), "properties": properties}
    answer = {"type": "object", "required": ["texts"], "properties": {"texts": {"type": "array", "items": one}}}
    return _json(answer) | {"headers": {KEY_HEADER: {"schema": TEXT}}}


def _photos(limits: Limits) -> dict[str, Any]:
    what = f"At most {limits.photos} photos of {limits.pixels:,} pixels, {limits.bytes:,} bytes in all."
    return {BINARY: {"schema": {"type": "string", "contentMediaType": BINARY, "description": what}}}


def _texts(limits: Limits) -> dict[str, Any]:
    texts = {"type": "array", "items": TEXT, "minItems": 1, "maxItems": limits.texts}
    schema = {"type": "object", "required": ["texts"], "properties": {"texts": texts}}
    return {"application/json": {"schema": schema}}


def _plain() -> dict[str, Any]:
    return {"description": "Yes.", "content": {"text/plain": {"schema": TEXT}}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "The answer.", "content": {"application/json": {"schema": schema}}}
