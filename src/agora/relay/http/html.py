"""
Markdown as HTML, as much of it as our own pages use: no markup of anybody else comes here.

Headings, paragraphs, numbered lists, tables, blocks of code; inside them code,
bold, links. Everything is escaped before anything is marked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

__all__ = ["anchor", "to_html"]


def to_html(markdown: str) -> str:
    """Return *markdown* as HTML."""
    return "\n".join(map(_block, _blocks(markdown)))


def anchor(title: str) -> str:
    """
    Return the id of a heading.

    >>> anchor("POST /v1/send")
    'post-v1-send'
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _blocks(markdown: str) -> Iterator[str]:
    """Yield what stands between blank lines; a block of code is one, blank lines and all."""
    for number, part in enumerate(re.split(r"^(```.*?^```)$", markdown, flags=re.M | re.S)):
        if number % 2:
            yield part
        else:
            yield from (one.strip("\n") for one in re.split(r"\n\s*\n", part) if one.strip())


def _block(text: str) -> str:
    if text.startswith("```"):
        return f"<pre><code>{escape(text.partition(chr(10))[2].removesuffix('```'))}</code></pre>"
    if heading := re.match(r"(#+) (.*)", text):
        level, title = len(heading[1]), heading[2]
        return f'<h{level} id="{anchor(title)}">{_inline(title)}</h{level}>'
    if text.startswith("|"):
        return _table(text.splitlines())
    if re.match(r"1\. ", text):
        items = re.split(r"^\d+\. ", text, flags=re.M)[1:]
        return "<ol>" + "".join(f"<li>{_inline(one)}</li>" for one in items) + "</ol>"
    return f"<p>{_inline(text)}</p>"


def _table(lines: list[str]) -> str:
    head, _, *rows = lines
    cells = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in _cells(head))
    body = "".join(
        "<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in _cells(row)) + "</tr>"
        for row in rows
    )
    return f"<div><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"


def _cells(row: str) -> list[str]:
    inner = row.strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]


def _inline(text: str) -> str:
    """Mark up a line: what is code is nothing else."""
    parts = re.split(r"`([^`]+)`", text)
    marked = [
        f"<code>{escape(part)}</code>" if number % 2 else _words(part)
        for number, part in enumerate(parts)
    ]
    return "".join(marked)


def _words(text: str) -> str:
    bold = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escape(text))
    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", r'<a href="\2">\1</a>', bold)
