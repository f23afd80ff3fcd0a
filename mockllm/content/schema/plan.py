"""A checked schema: its subschemas, linked, and validators for the whole and for parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote

import jsonschema_rs
import orjson

from mockllm.content.schema.errors import MAX_BYTES, MAX_DEPTH, MAX_NODES, MAX_PATTERNS, SchemaError, short
from mockllm.content.schema.heights import set_heights, set_ranks, set_spans, why_no_value
from mockllm.content.schema.nodes import Node

__all__ = ["Plan", "check_schema", "plan_of"]

_NUM_CACHED: Final = 64
_ONE: Final = (
    *("not", "if", "then", "else", "items", "contains", "propertyNames"),
    *("additionalProperties", "unevaluatedItems", "unevaluatedProperties"),
)
_MANY: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED: Final = ("properties", "patternProperties", "dependentSchemas")

_T = TypeVar("_T")


def check_schema(schema: object) -> None:
    """Raises SchemaError for what is not a JSON Schema, refers to another document, exceeds a limit or admits no value.

    That no value exists is only seen where it follows from one subschema (`minimum` above `maximum`, a required property
    that is `false`) or from a recursion without an end; what else is contradictory shows in `value_for`.
    """
    plan_of(schema)


def plan_of(schema: object) -> Plan:
    if isinstance(schema, Mapping):
        schema = dict(schema)
    if not isinstance(schema, dict | bool):
        raise SchemaError("", f"{type(schema).__name__} is not a JSON Schema; send an object, true or false")
    try:
        text = orjson.dumps(schema)
    except TypeError as error:
        raise SchemaError("", f"not JSON, nested too deep or a number beyond 64 bits ({error})") from None
    if len(text) > MAX_BYTES:
        raise SchemaError("", f"{len(text)} bytes; at most {MAX_BYTES} are served, send a smaller schema")
    return _cached_plan(text)


class Plan:
    """A schema that can be served, as far as `check_schema` tells."""

    def __init__(self, text: bytes) -> None:
        self._document: Any = orjson.loads(text)
        if isinstance(self._document, dict):
            for keyword in ("$schema", "$id"):  # every schema is read as 2020-12 and refers to nothing but itself
                self._document.pop(keyword, None)
        _checked(lambda: jsonschema_rs.meta.validate(self._document))
        self._matchers: dict[str, jsonschema_rs.Validator | None] = {}
        self._nodes: dict[tuple[str, ...], Node] = {}
        self._unlinked: deque[Node] = deque()
        self.root = self._node((), self._document)
        while self._unlinked:
            self._link(self._unlinked.popleft())
        nodes = list(self._nodes.values())
        self.branches = any(node.branches for node in nodes)
        set_ranks(nodes)
        set_heights(nodes)
        set_spans(nodes)
        if self.root.height > MAX_DEPTH:
            raise why_no_value(self.root)
        self._validators = {self.root: _validator(self._document)}

    def matches(self, pattern: str, text: str) -> bool:
        matcher = self._matchers[pattern]
        if matcher is None:
            matcher = self._matchers[pattern] = _validator({"pattern": pattern})
        return matcher.is_valid(text)

    def accepts(self, node: Node, value: Any) -> bool:
        """Whether the value validates against the subschema."""
        if node not in self._validators:
            steps = (quote(step.replace("~", "~0").replace("/", "~1")) for step in node.where)
            reference = "urn:schema#" + "".join(f"/{step}" for step in steps)
            self._validators[node] = _validator({"$ref": reference}, self._registry)
        return self._validators[node].is_valid(value)

    @cached_property
    def _registry(self) -> jsonschema_rs.Registry:
        return jsonschema_rs.Registry([("urn:schema", self._document)], retriever=_refuse)

    def _node(self, where: tuple[str, ...], schema: Any) -> Node:
        node = self._nodes.get(where)
        if node is None:
            if len(self._nodes) >= MAX_NODES:
                raise SchemaError(".".join(where), f"more than {MAX_NODES} subschemas; send a smaller schema")
            if isinstance(schema, bool):
                schema = {} if schema else {"not": {}}
            node = self._nodes[where] = Node(where, schema)
            self._unlinked.append(node)
        return node

    def _link(self, node: Node) -> None:
        """Finds the subschemas a node names. The meta-schema has been asked: keywords have the types they must have."""
        schema, where = node.schema, node.where
        node.check_keywords()
        for pattern in (*([schema["pattern"]] if "pattern" in schema else ()), *schema.get("patternProperties", ())):
            if pattern not in self._matchers and len(self._matchers) >= MAX_PATTERNS:
                raise SchemaError(node.path, f"more than {MAX_PATTERNS} different patterns; send fewer")
            self._matchers.setdefault(pattern)
        for keyword in filter(schema.__contains__, _ONE):
            node.one[keyword] = self._node((*where, keyword), schema[keyword])
        for keyword in filter(schema.__contains__, _MANY):
            parts = enumerate(schema[keyword])
            node.many[keyword] = [self._node((*where, keyword, str(number)), part) for number, part in parts]
        for keyword in filter(schema.__contains__, _NAMED):
            items = schema[keyword].items()
            node.named[keyword] = {name: self._node((*where, keyword, name), part) for name, part in items}
        if "$ref" in schema:
            node.one["$ref"] = self._target(node)

    def _target(self, node: Node) -> Node:
        reference = node.schema["$ref"]
        where = tuple(step.replace("~1", "/").replace("~0", "~") for step in unquote(reference).split("/")[1:])
        found: Any = self._document if reference.partition("/")[0] == "#" else None
        for step in where:
            try:
                found = found[int(step)] if isinstance(found, list) else found[step]
            except (KeyError, IndexError, ValueError, TypeError):
                found = None
        if not isinstance(found, dict | bool):
            rule = f"{short(reference)} does not point at a schema of this document; refer to '#/$defs/NAME'"
            raise node.error("$ref", rule)
        if where not in self._nodes:  # it may lie where no schema is expected, and has not been looked at then
            _checked(lambda: jsonschema_rs.meta.validate(found), where)
        return self._node(where, found)


_cached_plan = lru_cache(_NUM_CACHED)(Plan)


def _validator(schema: object, registry: jsonschema_rs.Registry | None = None) -> jsonschema_rs.Validator:
    text = orjson.dumps(schema).decode()
    # Linear-time matching; a pattern with lookaround or back references falls back to backtracking with a limit.
    patterns = jsonschema_rs.FancyRegexOptions(backtrack_limit=20_000, size_limit=5_000_000, dfa_size_limit=5_000_000)
    return _checked(
        lambda: jsonschema_rs.Draft202012Validator(
            text, validate_formats=True, pattern_options=patterns, registry=registry, offline=True
        )
    )


def _checked(build: Callable[[], _T], where: tuple[str, ...] = ()) -> _T:
    """What `build` returns; what jsonschema_rs objects to becomes a SchemaError."""
    try:
        return build()
    except jsonschema_rs.ValidationError as error:
        path = ".".join((*where, *map(str, error.instance_path)))
        raise SchemaError(path, f"{short(error.message)} (JSON Schema draft 2020-12)") from None
    except ValueError as error:  # the text is deeper than 127 levels
        raise SchemaError("", f"{short(str(error))}; send a schema that is nested less deep") from None


def _refuse(uri: str) -> Any:
    raise LookupError(f"{uri} is another document")
