"""Keeps secrets out of what is written: a server may say back what it was sent, in any header, error or crash."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from harness.errors import UsageError
from harness.records import RequestRecord

__all__ = ["Scrubber", "require_secret"]

_HIDDEN = "[secret]"
# What looks like a key, whoever's it is: `Authorization: Bearer …`, OpenAI and Anthropic, Hugging Face, Groq, Google, AWS,
# GitHub, and signed tokens.
_LIKE_A_KEY = re.compile(
    r"(?i:\bbearer\s+)(?=\S*\d)[A-Za-z0-9._~+/=-]{6,}"
    r"|\b(?:sk|pk|rk)-[A-Za-z0-9_-]{8,}"
    r"|\b(?:hf_|gsk_|xai-|nvapi-|ghp_|github_pat_|AIza|AKIA|ASIA)[A-Za-z0-9_-]{12,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"
)
_SHORTEST = 4  # a shorter one stands in ordinary words
_NO_WORD = 12  # one of so many characters is no ordinary word, however it is written: a host's name comes in lower case
_SHORTEST_PIECE = 6  # of a secret at the end of a text that was cut there
# Fields of a record whose words are the server's, or another program's.
_SAID_BY_SERVER = (
    "error_text",
    "finish_reason",
    "model_served",
    "server_request_id",
    "cache_outcome",
    "replica",
)


class Scrubber:
    """Replaces the given secrets, and what looks like one, by `[secret]`."""

    def __init__(self, secrets: Iterable[str | None]) -> None:
        self._secrets = [secret for secret in secrets if secret and len(secret) >= _SHORTEST]
        forms = {form for secret in self._secrets for form in _forms(secret)}
        exact = (
            f"(?i:{re.escape(form)})" if len(form) >= _NO_WORD else re.escape(form)
            for form in sorted(forms, key=len, reverse=True)
        )
        self._exact = re.compile("|".join(exact)) if forms else None

    def text(self, text: str) -> str:
        """The text without secrets, also where it was cut in the middle of one."""
        return _LIKE_A_KEY.sub(_HIDDEN, self._without_cut_secret(self.exactly(text)))

    def exactly(self, text: str) -> str:
        """The text without the given secrets; what only looks like one stays."""
        return text if self._exact is None else self._exact.sub(_HIDDEN, text)

    def record(self, record: RequestRecord) -> None:
        """Take the secrets out of what the server said into this record."""
        for name in _SAID_BY_SERVER:
            said = getattr(record, name)
            if said:
                setattr(record, name, self.text(said))

    def _without_cut_secret(self, text: str) -> str:
        """Error texts are cut to length: the beginning of a secret at the end, an ellipsis after it or not."""
        stem = text.rstrip("…. ")
        for secret in self._secrets:
            if secret[:_SHORTEST_PIECE] not in stem[-len(secret) :]:
                continue
            for length in range(len(secret) - 1, _SHORTEST_PIECE - 1, -1):
                if stem.endswith(secret[:length]):
                    return stem[:-length] + _HIDDEN + text[len(stem) :]
        return text


def require_secret(secret: str | None, written: str) -> None:
    """Raises UsageError where a secret stands in what is written down of a run, in any option, label, path or file that was given.
    A short one may stand in ordinary words."""
    if secret and len(secret) >= _NO_WORD and Scrubber([secret]).exactly(written) != written:
        raise UsageError(
            "HARNESS_API_KEY stands in an option, a label, a path or a file of this run, and so would in its manifest and its page; "
            "take it out there"
        )


def _forms(secret: str) -> set[str]:
    """A secret as it may come back: as it is, percent-encoded, in JSON, in HTML, in base64."""
    escaped = secret.replace("\\", "\\\\").replace('"', '\\"')
    in_base64 = b64encode(secret.encode()).decode()
    return {
        secret,
        quote(secret, safe=""),
        quote(secret),
        escaped,
        escaped.replace("/", "\\/"),
        escape(secret),
        in_base64,
    }
