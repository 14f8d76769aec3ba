"""The Python interface as Markdown, read from signatures and docstrings; nothing is said twice."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["class_section", "function_section", "members_of", "prose"]

_FIELDS = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):$", re.MULTILINE)
_RAISED = re.compile(r"^    (\w+Error|As \w[\w.]*\w(?:, but for \w+)?)", re.MULTILINE)
_ROLE = re.compile(r":\w+:`(?:[^`<]*<)?~?([\w.]+)>?`")


def function_section(name: str, function: Callable[..., Any]) -> str:
    """Return the section of a function or of what acts as one."""
    return "\n\n".join([f"### {name}", _signature(name, function), *_documented(function)]) + "\n"


def class_section(name: str, kind: type, *, is_made_here: bool = True, only: str = "") -> str:
    """
    Return the section of a class: what it is, and each public member.

    Args:
        name: What users call it.
        kind: The class.
        is_made_here: Whether users make one themselves.
        only: Names of the members to tell of, where not all are for users.
    """
    wanted = only.split() or members_of(kind)
    members = [_member(member, vars(kind)[member]) for member in wanted]
    parts = [f"### {name}", *([_signature(name, kind)] if is_made_here else []), *_documented(kind)]
    if members:
        parts += ["Members:", "\n".join(members)]
    return "\n\n".join(parts) + "\n"


def members_of(kind: type) -> list[str]:
    """Return the public methods and properties that a class defines itself, if documented."""
    return [
        name
        for name, value in vars(kind).items()
        if not name.startswith("_") and _is_told(value) and inspect.getdoc(value)
    ]


def _is_told(value: object) -> bool:
    return isinstance(value, property | classmethod | staticmethod) or inspect.isfunction(value)


def prose(text: str) -> str:
    """Return the prose of a docstring, without examples and fields, as Markdown."""
    paragraphs = _FIELDS.split(inspect.cleandoc(text), maxsplit=1)[0].split("\n\n")
    told = [part for part in paragraphs if not part.startswith((">>>", " ")) and part != "::"]
    return "\n\n".join(map(_markdown, told)).strip().removesuffix("::")


def _member(name: str, value: Any) -> str:
    summary = " ".join(_markdown(inspect.getdoc(value) or "").split("\n\n")[0].split())
    if isinstance(value, property):
        return f"* `{name}`: `{_bare(value.fget.__annotations__['return'])}`. {summary}"
    function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
    is_waiting = "await " if inspect.iscoroutinefunction(function) else ""
    raises = ", ".join(
        f"`{name}`" if name.endswith("Error") else name for name in _raised(function)
    )
    also = f" Raises: {raises}." if raises else ""
    return f"* `{is_waiting}{name}{_without_self(function)}`. {summary}{also}"


def _raised(function: Callable[..., Any]) -> list[str]:
    told = _FIELDS.split(inspect.getdoc(function) or "")
    texts = [text for title, text in zip(told[1::2], told[2::2], strict=True) if title == "Raises"]
    plain = _markdown("".join(texts)).replace("`", "")
    return [f"a{name[1:]}" if name.startswith("As ") else name for name in _RAISED.findall(plain)]


def _documented(thing: Any) -> Iterator[str]:
    text = inspect.getdoc(thing) or ""
    yield prose(text)
    fields = _FIELDS.split(text)
    for title, body in zip(fields[1::2], fields[2::2], strict=True):
        yield f"{title}:\n\n{_list(body)}"


def _list(body: str) -> str:
    """Make list items of the lines of a field, which say ``name: what it is``."""
    lines = inspect.cleandoc(body.split("\n\n")[0] if body.strip() else body).splitlines()
    items: list[str] = []
    for line in lines:
        if line.startswith(" "):
            items[-1] += f" {line.strip()}"
        else:
            items.append(line)
    named = [re.sub(r"^(\w+): ", r"`\1`: ", item) for item in items]
    return _markdown("\n".join(f"* {item}" for item in named))


# Signatures


class _Bare(str):
    """An annotation that is shown as it is written."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _bare(annotation: Any) -> _Bare:
    return _Bare(str(annotation).replace("core.", ""))


def _signature(name: str, function: Callable[..., Any]) -> str:
    parameters = list(_parameters(function))
    line = f"{name}({', '.join(parameters)}){_returned(function)}"
    if len(line) > _WIDTH:
        broken = "".join(f"    {each},\n" for each in parameters)
        line = f"{name}(\n{broken}){_returned(function)}"
    return f"```text\n{line}\n```"


_WIDTH = 100


def _without_self(function: Callable[..., Any]) -> str:
    parameters = [each for each in _parameters(function) if each not in ("self", "cls", "/")]
    return f"({', '.join(parameters)}){_returned(function)}"


def _parameters(function: Callable[..., Any]) -> list[str]:
    signature = inspect.signature(function)
    shown = [
        parameter.replace(annotation=_bare(parameter.annotation))
        if parameter.annotation is not inspect.Parameter.empty
        else parameter
        for parameter in signature.parameters.values()
    ]
    text = str(signature.replace(parameters=shown, return_annotation=inspect.Signature.empty))
    text = re.sub(r"<(\w+\.\w+): [^>]*>", r"\1", text)  # the default is a member of an enumeration
    text = re.sub(r"frozenset\(\{([^}]*)\}\)", _sorted_members, text)  # else as hashed today
    # A comma inside brackets belongs to a type.
    return [each for each in re.split(r", (?![^\[({]*[\])}])", text[1:-1]) if each]


def _sorted_members(found: re.Match[str]) -> str:
    return f"frozenset({{{', '.join(sorted(found[1].split(', ')))}}})"


def _returned(function: Callable[..., Any]) -> str:
    annotation = inspect.signature(function).return_annotation
    if isinstance(function, type) or annotation in (inspect.Signature.empty, "None", None):
        return ""
    return f" -> {_bare(annotation)}"


def _markdown(text: str) -> str:
    return _ROLE.sub(r"`\1`", text).replace("``", "`")
