"""Text from outside as it may stand on a terminal and in a build's log: names, errors and labels are a stranger's."""

from __future__ import annotations

import re

__all__ = ["plain", "plain_lines", "short_plain"]

# What XML forbids, terminals obey, or is a line's end to somebody; and the halves of characters that nobody can write.
_NOT_PLAIN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_MOST = 120
_COMMAND = re.compile(r"^(\s*)::")


def plain(text: str) -> str:
    """On one line, without characters that do more than stand there."""
    return _NOT_PLAIN.sub("�", text)


def short_plain(text: str) -> str:
    """A name or an error of a server's, which may be endless: its first 120 characters, and of them what can be seen."""
    return "".join(sign if sign.isprintable() else "�" for sign in text[:_MOST])


def plain_lines(lines: list[str]) -> str:
    """Lines of which parts may come from outside, as one text: each is one line and none is a command to a build server, which takes
    lines that begin with `::`, or have `##[` in them, for some."""
    return "\n".join(_COMMAND.sub(r"\1: :", plain(line)).replace("##[", "## [") for line in lines)
