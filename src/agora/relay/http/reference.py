"""The OpenAPI document as Markdown: for people, in the relay's ``/docs`` and in the repository."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["reference"]

_Members = dict[str, Any]


def reference(document: _Members) -> str:
    """Return everything that the document says, for people."""
    parts = [
        document["info"]["description"].strip(),
        "## Requests",
        *_overview(document),
        *_operations(document),
        "## Types",
        *_types(document),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


# Requests


def _each(document: _Members) -> Iterator[tuple[str, str, _Members]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def _overview(document: _Members) -> Iterator[str]:
    rows = [(f"`{method} {path}`", one["summary"]) for method, path, one in _each(document)]
    yield _table(("Request", "What it does"), rows)


def _operations(document: _Members) -> Iterator[str]:
    for method, path, operation in _each(document):
        yield f"### {method} {path}"
        yield f"{operation['summary']}. {_one_line(operation['description'])}"
        if not operation["security"]:
            yield "Needs no token."
        if parameters := operation.get("parameters"):
            yield _table(("Parameter", "Type", "Meaning"), map(_parameter_row, parameters))
        if asked := operation.get("requestBody"):
            yield from _body("Body", asked)
        for status, answer in operation["responses"].items():
            if "$ref" not in answer:
                yield from _answer(status, answer)
        yield f"Errors: {'; '.join(_errors(document, operation))}."


def _parameter_row(parameter: _Members) -> tuple[str, str, str]:
    schema = parameter["schema"]
    where = "" if parameter["in"] == "query" else f" ({parameter['in']})"
    default = schema.get("default")
    told = f"{default:g}" if type(default) in (int, float) else json.dumps(default)
    said = f" Default: `{told}`." if default not in (None, "") else ""
    return f"`{parameter['name']}`{where}", _type(schema), f"{schema['description']}{said}"


def _answer(status: str, answer: _Members) -> Iterator[str]:
    if status == "200":
        yield from _body(f"Answer {status}: {answer['description']}", answer)
    else:
        yield f"Answer {status}: {answer['description']}"


def _body(title: str, body: _Members) -> Iterator[str]:
    [(kind, content)] = body["content"].items()
    schema = content["schema"]
    named = f" {_type(schema)}" if kind == "application/json" else f" `{kind}` of {_type(schema)}"
    yield f"{title}{'' if title.endswith('.') else ':'}{named}"
    if example := content.get("example"):
        text = example if isinstance(example, str) else json.dumps(example, ensure_ascii=False)
        yield f"```{'text' if isinstance(example, str) else 'json'}\n{text.rstrip()}\n```"


def _errors(document: _Members, operation: _Members) -> Iterator[str]:
    """Yield each status with its codes."""
    for status, answer in operation["responses"].items():
        if name := answer.get("$ref", "").rpartition("/")[2]:
            codes = document["components"]["responses"][name]["description"]
            yield f"{status} {codes.replace(' · ', ', ')}"


# Types


def _types(document: _Members) -> Iterator[str]:
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield f"### {name}"
        if said := schema.get("description"):
            yield _one_line(said)
        required = schema.get("required", [])
        rows = [
            (f"`{member}`{'' if member in required else '?'}", _type(one), _meaning(one))
            for member, one in schema.get("properties", {}).items()
        ]
        yield _table(("Member", "Type", "Meaning"), rows)


def _type(schema: _Members) -> str:
    """Return the type of a value in a few words."""
    if reference_to := schema.get("$ref"):
        return f"`{reference_to.rpartition('/')[2]}`"
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if 0 < len(values) <= _MOST_VALUES:
        return " or ".join(f"`{json.dumps(value)}`" for value in values)
    if "type" not in schema and (choices := schema.get("anyOf")):
        return " or ".join(_type(one) for one in choices if one.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}{_count(schema)}"
    return f"{schema.get('type', 'any JSON')}{_bounds(schema)}"


_MOST_VALUES = 8
"""How many values are told one by one; of more the text tells."""


def _bounds(schema: _Members) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if most is not None:
        return f", {least or 0:g} to {int(most):,}"
    if longest := schema.get("maxLength"):
        return f" of at most {longest:,} characters"
    return ""


def _count(schema: _Members) -> str:
    most = schema.get("maxItems")
    return f" ({schema.get('minItems', 0)} to {most:,})" if most else ""


def _meaning(schema: _Members) -> str:
    """Return what is said of a value; of one of several kinds what is said of the first."""
    inner = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    said = schema.get("description") or (inner[0].get("description", "") if inner else "")
    return _one_line(said)


# Markdown


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [head, *rows]
    texts = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    width = texts[0].count(" | ") + 1
    return "\n".join([texts[0], "|" + "---|" * width, *texts[1:]])


def _one_line(text: str) -> str:
    return " ".join(text.split())
