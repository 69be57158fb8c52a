"""The fenced code blocks of a Markdown page, with what the page says about running them.

An HTML comment on the line before a block (blank lines between do not matter) says how it is run::

    <!-- norun: needs a cluster -->     it is not; the reason is required
    <!-- fails: 2 -->                   its exit status is 2 (shell blocks only)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SHELLS = ("bash", "sh", "console")
_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,}|~{3,})\s*(?P<language>[\w+-]*).*")
_COMMENT = re.compile(r"\s*<!--\s*(?P<key>norun|fails)\s*:?\s*(?P<value>.*?)\s*-->\s*")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Attributes:
        language: The word after the fence, in lower case.
        code: What to run: the text, or, of a ``console`` block, its lines after ``$``.
        line: The line of the page on which ``code`` begins, from 1.
        status: The exit status that is expected.
        norun: Why it is not run, or ``""``.
    """

    language: str
    code: str
    line: int
    status: int = 0
    norun: str = ""


def blocks_of(page: str) -> list[Block]:
    """The page's fenced blocks in order.

    Raises:
        ValueError: If a comment makes no sense, or a fence is not closed; it names the line.
    """
    blocks: list[Block] = []
    lines = page.splitlines()
    comment: tuple[str, str] | None = None
    at = 0
    while at < len(lines):
        opening, note = _FENCE.fullmatch(lines[at]), _COMMENT.fullmatch(lines[at])
        if opening:
            end = _end(lines, at, opening["fence"])
            body = [line.removeprefix(opening["indent"]) for line in lines[at + 1:end]]
            blocks.append(_block(opening["language"].lower(), body, at + 2, comment))
            at, comment = end, None
        elif note:
            comment = note["key"], note["value"]
        elif lines[at].strip():
            comment = None
        at += 1
    return blocks


def commands_of(code: str) -> list[str]:
    """The commands of a shell block: its lines, continued ones joined, without comments."""
    joined = re.sub(r"\\\n\s*", "", code)
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _end(lines: list[str], start: int, fence: str) -> int:
    for at in range(start + 1, len(lines)):
        text = lines[at].strip()
        if set(text) == {fence[0]} and len(text) >= len(fence):
            return at
    raise ValueError(f"line {start + 1}: the fence is not closed")


def _block(language: str, body: list[str], line: int, comment: tuple[str, str] | None) -> Block:
    if language == "console":
        body = [text.removeprefix("$ ") for text in body if text.startswith("$ ")]
    code = "\n".join(body) + "\n"
    match comment:
        case None:
            return Block(language, code, line)
        case ("norun", reason) if reason:
            return Block(language, code, line, norun=reason)
        case ("fails", status) if status.isdecimal() and int(status) and language in SHELLS:
            return Block(language, code, line, status=int(status))
        case (key, value):
            raise ValueError(
                f"line {line - 1}: '{key}: {value}' before a {language or 'plain'} block is not understood; "
                "allowed: 'norun: REASON', or before a shell block 'fails: STATUS'"
            )
