"""Which requests a router is responsible for: those for its own name, or those for any of the models it chooses among."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mockllm.fields import ModelName
from mockllm.stack.parts import KeyPath, StageSettings
from mockllm.stack.stage import Flight

__all__ = ["RouterSettings"]


class RouterSettings(StageSettings):
    """Settings of a policy that chooses a model.

    With `name` clients ask for that name, and no model has it. Without, whoever asks for one of the models that the
    policy names is given the one that it chooses; an embedding model beside them is left alone. So is a request that an
    earlier stage has sent to another model than its client asked for, a router's choice as well as a fallback: give the later
    router the first one's place, or a `name` of its own.
    """

    name: ModelName | None = None

    def choices(self) -> Sequence[tuple[KeyPath, str]]:
        """The models that may answer, each with where it stands in the settings; the first stands for `name`."""
        raise NotImplementedError

    def aliases(self) -> Iterator[tuple[str, str]]:
        if self.name is not None:
            yield self.name, self.choices()[0][1]

    def references(self) -> Iterator[tuple[KeyPath, str]]:
        yield from self.choices()

    def concerns(self, flight: Flight) -> bool:
        """Whether this request is the policy's to decide."""
        model = flight.request.model
        if self.name is not None:
            return model == self.name
        return model == flight.asked.model and any(model == choice for _, choice in self.choices())

    def clients(self) -> str:
        """Whose requests these are, in words."""
        if self.name is not None:
            return f"`{self.name}`"
        return f"who asks for {' or '.join(dict.fromkeys(model for _, model in self.choices()))}"
