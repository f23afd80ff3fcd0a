"""User-context cache: what a user was told a moment ago, when the same user asks the same again.

The key is the user (and organization), the parameters, the model that the request is for, and the last message, whatever
its upper case, blanks and closing punctuation. What was said before is not looked at: that is what finds an answer where
the exact cache cannot, because the conversation has grown, and it is wrong where a message means something only after
what was said ("and the second one?"). Hence the short time, and the wrong hits beside the hits.
"""

from __future__ import annotations

from mockllm.stack.answers import Ttl, normalised, question_of
from mockllm.stack.keyed_cache import KeyedCache, KeyedCacheSettings
from mockllm.stack.parts import Parts
from mockllm.stack.stage import Flight

__all__ = ["UserCache", "UserCacheSettings"]


class UserCacheSettings(KeyedCacheSettings):
    """Five minutes: about a conversation's length; judgement."""

    ttl: Ttl = 300.0


class UserCache(KeyedCache):
    """Answers by user and last message. A request without a user passes by."""

    def __init__(self, settings: UserCacheSettings, parts: Parts) -> None:
        super().__init__(settings, parts)

    def key_of(self, flight: Flight) -> tuple[str | None, ...] | None:
        query, tenant = question_of(flight), flight.asked.tenant
        if query is None or tenant.user is None or not (text := normalised(query.text)):
            return None
        return tenant.organization, tenant.user, flight.request.model, query.parameters, text

    def describe(self) -> str:
        return f"a user's last messages, {super().describe()}"
