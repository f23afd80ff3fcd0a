"""JSON values that fit a client's JSON Schema (draft 2020-12): structured answers and the arguments of tool calls.

A value is drawn by (seed, key, place in the value), so the same request gets the same answer and a property does not
change when another one is added. Schemas that apply at one place together (`$ref`, `allOf`, the chosen branch of
`anyOf`, all that name a property) are kept side by side and asked one by one; they are never merged into one.
Whatever was drawn is checked with `jsonschema_rs` before it leaves, so a value that comes back does validate.
`nullable` (OpenAPI) is not part of JSON Schema: such a place never gets null, which both readings accept.

A schema comes from a client and may be hostile. Work is counted in steps (about 10 µs each), never in time, and
patterns are matched by an engine that does not backtrack without end. Parts, in this order:

    limits and errors -> Plan (a checked schema, cached) -> Maker (one value) -> numbers, texts, patterns, words
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from heapq import heappop, heappush
from math import ceil, floor, gcd, inf, lcm
from re import DOTALL, Match
from re import _parser as regex  # type: ignore[attr-defined]  # no public parser gives the tree of a pattern
from re import compile as compile_regex
from re import error as regex_error
from re import escape as regex_escape
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote

import jsonschema_rs
import orjson

from mockllm.streams import Streams

__all__ = ["SchemaError", "check_schema", "value_for"]

# ---------------------------------------------------------------------------------------------- limits and errors
# OpenAI's limits for strict schemas are 5,000 properties, 10 levels and 120,000 characters of names and enums
# (developers.openai.com, structured outputs); these are at or above them. The others are judgement.
MAX_BYTES: Final = 256 * 1024  # a schema as JSON text
MAX_NODES: Final = 5_000  # subschemas that can be reached
MAX_IN_PLACE: Final = 64  # schemas nested without going down in the value: allOf in anyOf behind $ref ...
MAX_DEPTH: Final = 32  # levels of a value
MAX_LENGTH: Final = 10_000  # characters that minLength may ask for
MAX_ITEMS: Final = 1_000  # items or properties that minItems, minContains, minProperties may ask for
MAX_PATTERNS: Final = 50  # different regular expressions in one schema
MAX_STEPS: Final = 30_000  # a value costs 4 to 8 steps, and 1 for 16 characters: at most 480,000 characters
MAX_EVALUATIONS: Final = 2_000_000  # of subschemas by the validator, 14 ns each: branches in branches multiply
LEAN_STEPS: Final = (
    10_000  # from here on, and from LEAN_DEPTH or the third turn of a recursion, only what must be there
)
LEAN_DEPTH: Final = 12
ATTEMPTS: Final = 24  # draws at one place until its schemas accept one
OPTIONAL_SHARE: Final = 0.9  # of optional properties that are present; judgement: models fill in most
NULL_SHARE: Final = 0.1  # of places that may be null and are
_CACHED: Final = 64

_LIMITED: Final = {
    "minLength": (MAX_LENGTH, "characters"),
    "minItems": (MAX_ITEMS, "items"),
    "minContains": (MAX_ITEMS, "items"),
    "minProperties": (MAX_ITEMS, "properties"),
}
_UNSERVED: Final = ("$dynamicRef", "$recursiveRef", "$id")


class SchemaError(ValueError):
    """A schema that is not one, or that cannot be served. `path` is the place in the schema, "" its root."""

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(f"{path}: {rule}" if path else rule)
        self.path, self.rule = path, rule


class _NoValueError(Exception):
    """No value was found at a node; another branch higher up may still help."""

    def __init__(self, node: _Node, rule: str) -> None:
        super().__init__(rule)
        self.node, self.rule = node, rule


def check_schema(schema: object) -> None:
    """Raises SchemaError for what is not a JSON Schema, refers to another document, exceeds a limit or admits no value.

    That no value exists is only seen where it follows from one subschema (`minimum` above `maximum`, a required property
    that is `false`) or from a recursion without an end; what else is contradictory shows in `value_for`.
    """
    _plan_of(schema)


def value_for(schema: Mapping[str, Any] | bool, streams: Streams, key: str) -> Any:
    """A JSON value that validates against the schema, formats included; SchemaError when none was found."""
    plan = _plan_of(schema)
    return _Maker(plan).whole(_Draws(streams, key))


def _plan_of(schema: object) -> _Plan:
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


# ------------------------------------------------------------------------------------------------------------ plan
_ONE: Final = (
    *("not", "if", "then", "else", "items", "contains", "propertyNames"),
    *("additionalProperties", "unevaluatedItems", "unevaluatedProperties"),
)
_MANY: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED: Final = ("properties", "patternProperties", "dependentSchemas")
# fmt: off
_ANNOTATIONS: Final = frozenset({
    "$ref", "$defs", "definitions", "$schema", "$comment", "$anchor", "title", "description", "default",
    "examples", "deprecated", "readOnly", "writeOnly", "nullable", "allOf", "anyOf", "strict",
})
# What drawing from one subschema alone does not guarantee.
_RISKY: Final = frozenset({
    "not", "oneOf", "if", "dependentSchemas", "dependentRequired", "contains", "propertyNames", "uniqueItems",
    "patternProperties", "pattern", "unevaluatedItems", "unevaluatedProperties", "maxProperties",
})
_LENGTHS: Final = frozenset({"minLength", "maxLength"})
# What makes a validator look at a value more than once.
_BRANCHING: Final = frozenset({
    "anyOf", "oneOf", "not", "if", "contains", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties",
})
# fmt: on
_SCALARS: Final = frozenset({"string", "number", "integer", "boolean", "null"})
_TYPES: Final = (*sorted(_SCALARS - {"string", "null"}), "string", "object", "array", "null")
_BOUNDS: Final = (
    ("minLength", "maxLength", {"string"}),
    ("minItems", "maxItems", {"array"}),
    ("minProperties", "maxProperties", {"object"}),
    ("minimum", "maximum", {"number", "integer"}),
)


@dataclass(eq=False, slots=True)
class _Node:
    """A subschema with the subschemas it names. `true` is `{}`, `false` is `{"not": {}}`."""

    where: tuple[str, ...]
    schema: dict[str, Any]
    one: dict[str, _Node] = field(default_factory=dict)
    many: dict[str, list[_Node]] = field(default_factory=dict)
    named: dict[str, dict[str, _Node]] = field(default_factory=dict)
    types: frozenset[str] = frozenset(_TYPES)
    constrains: bool = False  # says something of its own about a value
    risky: bool = False  # a value drawn from it alone may still not validate
    rank: int = 0  # longest chain of schemas for the same value below this one
    height: float = inf  # levels that a value for it has at least; infinite when there is no such value
    span: int = 1  # subschemas that a validator for it holds
    num_ways: float = inf  # ways down from here; infinite where it recurs

    @property
    def path(self) -> str:
        return ".".join(self.where)

    def in_place(self) -> Iterator[_Node]:
        """The subschemas that look at the same value."""
        for keyword in ("$ref", "not", "if", "then", "else"):
            if keyword in self.one:
                yield self.one[keyword]
        for keyword in ("allOf", "anyOf", "oneOf"):
            yield from self.many.get(keyword, ())
        yield from self.named.get("dependentSchemas", {}).values()

    def children(self) -> Iterator[_Node]:
        yield from self.one.values()
        for nodes in self.many.values():
            yield from nodes
        for by_name in self.named.values():
            yield from by_name.values()


class _Plan:
    """A checked schema: its nodes, linked, and validators for the whole and for parts."""

    def __init__(self, text: bytes) -> None:
        self.document: Any = orjson.loads(text)
        if isinstance(self.document, dict):
            for keyword in ("$schema", "$id"):  # every schema is read as 2020-12 and refers to nothing but itself
                self.document.pop(keyword, None)
        _checked(lambda: jsonschema_rs.meta.validate(self.document))
        self._matchers: dict[str, jsonschema_rs.Validator | None] = {}
        self._parts: dict[_Node, jsonschema_rs.Validator] = {}
        self._registry: jsonschema_rs.Registry | None = None
        self._nodes: dict[tuple[str, ...], _Node] = {}
        self._unlinked: deque[_Node] = deque()
        self.root = self._node((), self.document)
        while self._unlinked:
            self._link(self._unlinked.popleft())
        nodes = list(self._nodes.values())
        self.branching = any(not _BRANCHING.isdisjoint(node.schema) for node in nodes)
        _set_ranks(nodes)
        _set_heights(nodes)
        _set_spans(nodes)
        if self.root.height > MAX_DEPTH:
            raise _why_not(self.root)
        self._whole = _validator(orjson.dumps(self.document).decode())

    def _node(self, where: tuple[str, ...], schema: Any) -> _Node:
        node = self._nodes.get(where)
        if node is None:
            if len(self._nodes) >= MAX_NODES:
                raise SchemaError(".".join(where), f"more than {MAX_NODES} subschemas; send a smaller schema")
            node = self._nodes[where] = _Node(
                where, schema if isinstance(schema, dict) else {} if schema else {"not": {}}
            )
            self._unlinked.append(node)
        return node

    def _link(self, node: _Node) -> None:
        """Finds the subschemas a node names. The meta-schema has been asked: keywords have the types they must have."""
        schema = node.schema
        _check_keywords(node)
        for pattern in (*([schema["pattern"]] if "pattern" in schema else ()), *schema.get("patternProperties", ())):
            self._add_pattern(node, pattern)
        for keyword in _ONE:
            if keyword in schema:
                node.one[keyword] = self._node((*node.where, keyword), schema[keyword])
        for keyword in _MANY:
            if keyword in schema:
                node.many[keyword] = [
                    self._node((*node.where, keyword, str(number)), part) for number, part in enumerate(schema[keyword])
                ]
        for keyword in _NAMED:
            if keyword in schema:
                node.named[keyword] = {
                    name: self._node((*node.where, keyword, name), part) for name, part in schema[keyword].items()
                }
        if "$ref" in schema:
            node.one["$ref"] = self._target(node)
        node.types = _possible_types(schema)
        node.constrains = not _ANNOTATIONS.issuperset(schema)
        node.risky = not _RISKY.isdisjoint(schema) or ("format" in schema and not _LENGTHS.isdisjoint(schema))

    def _target(self, node: _Node) -> _Node:
        reference = node.schema["$ref"]
        where = tuple(step.replace("~1", "/").replace("~0", "~") for step in unquote(reference).split("/")[1:])
        found: Any = self.document if reference.partition("/")[0] == "#" else None
        for step in where:
            try:
                found = found[int(step)] if isinstance(found, list) else found[step]
            except (KeyError, IndexError, ValueError, TypeError):
                found = None
        if not isinstance(found, dict | bool):
            rule = f"{_short(reference)} does not point at a schema of this document; refer to '#/$defs/NAME'"
            raise SchemaError(_dotted(node, "$ref"), rule)
        if where not in self._nodes:  # it may lie where no schema is expected, and has not been looked at then
            _checked(lambda: jsonschema_rs.meta.validate(found), where)
        return self._node(where, found)

    def _add_pattern(self, node: _Node, pattern: str) -> None:
        if pattern not in self._matchers:
            if len(self._matchers) >= MAX_PATTERNS:
                raise SchemaError(node.path, f"more than {MAX_PATTERNS} different patterns; send fewer")
            self._matchers[pattern] = None

    def matches(self, pattern: str, text: str) -> bool:
        matcher = self._matchers[pattern]
        if matcher is None:
            matcher = self._matchers[pattern] = _validator(orjson.dumps({"pattern": pattern}).decode())
        return matcher.is_valid(text)

    def accepts(self, node: _Node, value: Any) -> bool:
        """Whether the value validates against the subschema."""
        if node is self.root:
            return self._whole.is_valid(value)
        if node not in self._parts:
            if self._registry is None:
                self._registry = jsonschema_rs.Registry([("urn:schema", self.document)], retriever=_refuse)
            steps = (quote(step.replace("~", "~0").replace("/", "~1")) for step in node.where)
            part = orjson.dumps({"$ref": "urn:schema#" + "".join(f"/{step}" for step in steps)}).decode()
            self._parts[node] = _validator(part, self._registry)
        return self._parts[node].is_valid(value)


_cached_plan = lru_cache(_CACHED)(_Plan)


def _validator(text: str, registry: jsonschema_rs.Registry | None = None) -> jsonschema_rs.Validator:
    # Linear-time matching; a pattern with lookaround or back references falls back to backtracking with a limit.
    patterns = jsonschema_rs.FancyRegexOptions(backtrack_limit=20_000, size_limit=5_000_000, dfa_size_limit=5_000_000)
    return _checked(
        lambda: jsonschema_rs.Draft202012Validator(
            text, validate_formats=True, pattern_options=patterns, registry=registry, offline=True
        )
    )


_T = TypeVar("_T")


def _checked(build: Callable[[], _T], where: tuple[str, ...] = ()) -> _T:
    """What `build` returns; what jsonschema_rs objects to becomes a SchemaError."""
    try:
        return build()
    except jsonschema_rs.ValidationError as error:
        path = ".".join((*where, *map(str, error.instance_path)))
        raise SchemaError(path, f"{_short(error.message)} (JSON Schema draft 2020-12)") from None
    except ValueError as error:  # the text is deeper than 127 levels
        raise SchemaError("", f"{_short(str(error))}; send a schema that is nested less deep") from None


def _refuse(uri: str) -> Any:
    raise LookupError(f"{uri} is another document")


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:120]} ... {text[-70:]}"


def _dotted(node: _Node, keyword: str) -> str:
    return ".".join((*node.where, keyword))


def _check_keywords(node: _Node) -> None:
    for keyword in _UNSERVED:
        if keyword in node.schema:
            raise SchemaError(_dotted(node, keyword), "not served below the root; use '$ref': '#/$defs/NAME'")
    for keyword, (limit, what) in _LIMITED.items():
        if node.schema.get(keyword, 0) > limit:
            rule = f"{node.schema[keyword]} {what}; at most {limit} are served, ask for less"
            raise SchemaError(_dotted(node, keyword), rule)


def _from_below(nodes: list[_Node], below: Callable[[_Node], Iterable[_Node]]) -> tuple[list[_Node], Counter[_Node]]:
    """The nodes in an order in which each follows all below it (Kahn), and those on loops or above them."""
    above, num_left = defaultdict(list), Counter[_Node]()
    for node in nodes:
        for child in below(node):
            above[child].append(node)
            num_left[node] += 1
    order = [node for node in nodes if not num_left[node]]
    for node in order:
        for parent in above[node]:
            num_left[parent] -= 1
            if not num_left[parent]:
                order.append(parent)  # the loop goes on to it
    return order, +num_left


def _set_ranks(nodes: list[_Node]) -> None:
    order, left = _from_below(nodes, _Node.in_place)
    for node in left:
        rule = "refers to itself for the same value; put it in a property"
        raise SchemaError(_on_loop(node, left).path, rule)
    for node in order:
        node.rank = 1 + max((child.rank for child in node.in_place()), default=-1)
        if node.rank > MAX_IN_PLACE:
            raise SchemaError(node.path, f"{node.rank} schemas inside each other for one value; at most {MAX_IN_PLACE}")
    for node in _from_below(nodes, _Node.children)[0]:
        node.num_ways = 1 + sum(child.num_ways for child in node.children())


def _on_loop(node: _Node, left: Counter[_Node]) -> _Node:
    passed = set[_Node]()
    while node not in passed:
        passed.add(node)
        node = next(child for child in node.in_place() if left[child])
    return node


def _set_heights(nodes: list[_Node]) -> None:
    """The least fixed point of `_least`: a node is looked at again when one below it has come down."""
    above = defaultdict(list)
    for node in nodes:
        for child in node.children():
            above[child].append(node)
    pending = deque(sorted(nodes, key=lambda node: node.rank))
    queued = set(pending)
    while pending:
        node = pending.popleft()
        queued.discard(node)
        height = _least(node)
        if height < node.height:
            node.height = height
            pending.extend(parent for parent in above[node] if parent not in queued)
            queued.update(above[node])


def _least(node: _Node) -> float:
    heights = [_own_height(node)]
    heights += [child.height for child in node.many.get("allOf", ())]
    heights += [
        min(child.height for child in node.many[keyword]) for keyword in ("anyOf", "oneOf") if keyword in node.many
    ]
    if "$ref" in node.one:
        heights.append(node.one["$ref"].height)
    return max(heights)


def _own_height(node: _Node) -> float:
    schema = node.schema
    if schema.get("not") in ({}, True) or schema.get("enum") == []:
        return inf
    if "const" in schema or "enum" in schema:
        return 0
    if node.types & _SCALARS:
        return 0
    heights = [_object_height(node)] if "object" in node.types else []
    heights += [_array_height(node)] if "array" in node.types else []
    return min(heights, default=inf)


def _possible_types(schema: Mapping[str, Any]) -> frozenset[str]:
    """The types that a schema names, all if none, without those whose bounds contradict each other."""
    named = schema.get("type", _TYPES)
    types = frozenset([named] if isinstance(named, str) else named)
    if "number" in types:
        types |= {"integer"}
    for low, high, of in _BOUNDS:
        if schema.get(low, -inf) > schema.get(high, inf):
            types -= of
    return types


def _object_height(node: _Node) -> float:
    properties, closed = node.named.get("properties", {}), node.schema.get("additionalProperties") is False
    least = -1.0
    for name in node.schema.get("required", ()):
        if name in properties:
            least = max(least, properties[name].height)
        elif closed and "patternProperties" not in node.schema:
            return inf
    return 1 + least


def _array_height(node: _Node) -> float:
    num, first = int(node.schema.get("minItems", 0)), node.many.get("prefixItems", [])
    needed = [child.height for child in first[:num]]
    if num > len(first) and "items" in node.one:
        needed.append(node.one["items"].height)
    return 1 + max(needed, default=-1.0)


def _set_spans(nodes: list[_Node]) -> None:
    """A part without references is compiled by itself; one with a reference may bring in everything."""
    by_place = {node.where: node for node in nodes}
    for node in sorted(nodes, key=lambda node: -len(node.where)):
        if "$ref" in node.one:
            node.span = len(nodes)
        for length in range(len(node.where) - 1, -1, -1):
            parent = by_place.get(node.where[:length])
            if parent is not None:
                parent.span = min(parent.span + node.span, len(nodes))
                break


def _why_not(node: _Node) -> SchemaError:
    """The error for a node without a value: follows what makes it so down to the subschema that is to blame."""
    if node.height < inf:
        return SchemaError(node.path, f"a value has {node.height:.0f} levels at least; at most {MAX_DEPTH} are served")
    passed = set[_Node]()
    while node not in passed:
        passed.add(node)
        below = next((child for child in _needed(node) if child.height == inf), None)
        if below is None:
            return SchemaError(node.path, f"{_short(orjson.dumps(node.schema).decode())} admits no value; relax it")
        node = below
    return SchemaError(node.path, "recursion without an end; make a property of the loop optional or nullable")


def _needed(node: _Node) -> Iterator[_Node]:
    yield from (node.one[keyword] for keyword in ("$ref",) if keyword in node.one)
    for keyword in ("allOf", "anyOf", "oneOf"):
        children = node.many.get(keyword, [])
        if keyword == "allOf" or all(child.height == inf for child in children):
            yield from children
    if "object" in node.types:
        required, properties = node.schema.get("required", ()), node.named.get("properties", {})
        yield from (properties[name] for name in required if name in properties)
    if "array" in node.types:
        num = int(node.schema.get("minItems", 0))
        yield from node.many.get("prefixItems", [])[:num]
        if "items" in node.one:
            yield node.one["items"]


# ----------------------------------------------------------------------------------------------------------- maker
@dataclass(frozen=True, slots=True)
class _Draws:
    """Draws for one place in a value. `turn` shifts them all, so that consecutive turns differ."""

    streams: Streams
    key: str
    turn: int = 0

    def at(self, place: object) -> _Draws:
        return _Draws(self.streams, f"{self.key}/{place}", self.turn)

    def index(self, num: int, what: str) -> int:
        """A number in 0..num-1."""
        return (self.streams.integer(f"schema {what}", self.key) + self.turn) % num

    def happens(self, share: float, what: str) -> bool:
        return self.streams.uniform(f"schema {what}", self.key) < share


@dataclass(slots=True)
class _Facts:
    """All subschemas that apply to one value after its branches have been chosen."""

    turn: int
    lean: bool
    nodes: list[_Node] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    num_choices: int = 1

    def option(self, num: int, first: int) -> int:
        """The option of this turn among `num`: all combinations of all options come up in consecutive turns."""
        chosen = (first + self.turn // self.num_choices) % num
        self.num_choices *= num
        return chosen

    @property
    def doubtful(self) -> bool:
        return any(node.risky for node in self.nodes) or sum(node.constrains for node in self.nodes) > 1

    def asked(self, keyword: str) -> list[Any]:
        return [node.schema[keyword] for node in self.nodes if keyword in node.schema]

    def least(self, keyword: str) -> int:
        return int(max(self.asked(keyword), default=0))

    def most(self, keyword: str) -> int | None:
        return int(min(self.asked(keyword))) if self.asked(keyword) else None


class _Maker:
    """Makes one value of a plan."""

    def __init__(self, plan: _Plan) -> None:
        self.plan = plan
        self.steps = 0
        self.open = Counter[_Node]()  # nodes on the way from the root to here: tells recursion
        self.compiled = set[_Node]()
        self.refused: _NoValueError | None = None

    def whole(self, draws: _Draws) -> Any:
        root = self.plan.root
        try:
            for attempt in range(ATTEMPTS):
                value = self.value([root], draws.at(attempt) if attempt else draws, "", 0, lean=False)
                self._spend_evaluations(root, value)
                if self.plan.accepts(root, value):
                    return value
        except _NoValueError as refused:
            raise SchemaError(refused.node.path, f"no value found: {refused.rule}; relax the schema") from None
        raise SchemaError(root.path, f"none of {ATTEMPTS} values was accepted; relax the schema")

    def spend(self, steps: float) -> None:
        self.steps += 1 + int(steps)
        if self.steps > MAX_STEPS:
            path, rule = (
                (self.refused.node.path, self.refused.rule) if self.refused else ("", "the values are too large")
            )
            raise SchemaError(path, f"no value found in {MAX_STEPS} steps: {rule}; relax the schema")

    def value(self, nodes: Sequence[_Node], draws: _Draws, name: str, depth: int, *, lean: bool) -> Any:
        """A value for all the nodes; `name` is the property it is for, `lean` leaves out what may be left out."""
        if depth > MAX_DEPTH:
            raise self._refuse(nodes[0], f"deeper than {MAX_DEPTH} levels")
        self.spend(len(nodes) // 4)
        lean = lean or depth >= LEAN_DEPTH or self.steps > LEAN_STEPS or any(self.open[node] >= 2 for node in nodes)
        self.open.update(nodes)
        try:
            return self._attempts(nodes, draws, name, depth, lean)
        finally:
            self.open.subtract(nodes)

    def _attempts(self, nodes: Sequence[_Node], draws: _Draws, name: str, depth: int, lean: bool) -> Any:
        refused = None
        for turn in range(ATTEMPTS):
            facts, again = _Facts(turn, lean), draws.at(f"try {turn}") if turn else draws
            try:
                self._unfold(nodes, facts, again, depth)
                value = self._drawn(facts, again, name, depth)
            except _NoValueError as found:
                refused = found
            else:
                if not facts.doubtful or self._accept(nodes, value):
                    return value
            if facts.num_choices == 1 and not facts.doubtful:
                break
        raise refused or self._refuse(nodes[0], f"none of {ATTEMPTS} values was accepted")

    def _refuse(self, node: _Node, rule: str) -> _NoValueError:
        self.refused = _NoValueError(node, rule)
        return self.refused

    def _accept(self, nodes: Sequence[_Node], value: Any) -> bool:
        """Whether the nodes accept the value. One whose validator is too costly is left to the check of the whole."""
        for node in nodes:
            if node not in self.compiled:
                if node.span > (MAX_STEPS - self.steps) // 4:
                    continue
                self.compiled.add(node)
                self.spend(node.span)
            self._spend_evaluations(node, value)
            if not self.plan.accepts(node, value):
                return False
        return True

    def _spend_evaluations(self, node: _Node, value: Any) -> None:
        """Refuses what a validator would take too long for: branches that branch again on every level of the value."""
        self.spend(0)
        if not self.plan.branching or self.plan.root.num_ways * self.steps < MAX_EVALUATIONS:
            return
        num_evaluations, pending = 0, [(value, Counter({node: 1}))]
        while pending:
            value, times = pending.pop()
            below: dict[int | str, Counter[_Node]] = defaultdict(Counter)
            for part, num in _in_place(times):
                self.spend(_num_children(part) // 8)
                num_evaluations += num
                for place, child in self._applied(part, value):
                    below[place][child] += num
            if num_evaluations > MAX_EVALUATIONS:
                raise self._refuse(
                    node, f"a check takes more than {MAX_EVALUATIONS} evaluations, its branches multiply"
                )
            pending += [(value[place], counts) for place, counts in below.items()]

    def _applied(self, node: _Node, value: Any) -> Iterator[tuple[int | str, _Node]]:
        """The subschemas that look at each part of the value."""
        places: Iterable[int | str] = ()
        always: list[_Node] = []
        if isinstance(value, dict):
            places, always = value, [node.one[name] for name in ("unevaluatedProperties",) if name in node.one]
        elif isinstance(value, list):
            places = range(len(value))
            always = [node.one[name] for name in ("contains", "unevaluatedItems") if name in node.one]
        for place in places:
            found = self._of_property(node, place) if isinstance(place, str) else _of_item(node, place)
            yield from ((place, child) for child in (*found, *always))

    # -------------------------------------------------------------------------------------------------- branches
    def _unfold(self, nodes: Iterable[_Node], facts: _Facts, draws: _Draws, depth: int) -> None:
        """Adds to the facts the nodes and all that they bring in for the same value."""
        pending = list(nodes)
        while pending:
            node = pending.pop()
            self.spend(0)
            facts.nodes.append(node)
            pending.extend(node.many.get("allOf", ()))
            if "$ref" in node.one:
                pending.append(node.one["$ref"])
            for keyword in ("anyOf", "oneOf"):
                if keyword in node.many:
                    pending.append(self._branch(node, keyword, facts, draws, depth))
            if "if" in node.one:
                pending.extend(_condition(node, facts, draws))
            for name, child in node.named.get("dependentSchemas", {}).items():
                if facts.option(2, 0) == 0:
                    pending.append(child)
                else:
                    facts.absent.add(name)
            facts.absent.update(_forbidden(node, facts))

    def _branch(self, node: _Node, keyword: str, facts: _Facts, draws: _Draws, depth: int) -> _Node:
        children = node.many[keyword]
        self.spend(len(children) // 8)
        children = [child for child in children if child.height <= MAX_DEPTH - depth]
        if not children:
            raise self._refuse(node, f"no branch of {keyword} ends within {MAX_DEPTH} levels")
        if facts.lean:
            children.sort(key=lambda child: child.height)
            return children[facts.option(len(children), 0)]
        children.sort(key=_is_null)
        return children[facts.option(len(children), _first(children, _is_null, draws, f"{keyword} {node.path}"))]

    # --------------------------------------------------------------------------------------------------- a value
    def _drawn(self, facts: _Facts, draws: _Draws, name: str, depth: int) -> Any:
        listed = self._listed(facts, draws)
        if listed is not None:
            return listed[0]
        match self._type(facts, draws):
            case "object":
                return _ObjectMaker(self, facts, draws, depth).made(name)
            case "array":
                return self._array(facts, draws, name, depth)
            case "string":
                return self._string(facts, draws, name)
            case "integer" | "number" as kind:
                return self._number(facts, draws, name, kind)
            case "boolean":
                return draws.index(2, "boolean") == 1
            case _:
                return None

    def _listed(self, facts: _Facts, draws: _Draws) -> list[Any] | None:
        """A value of `const` or `enum`, in a list of one."""
        values = next(iter([[value] for value in facts.asked("const")] + facts.asked("enum")), None)
        if values is None:
            return None
        values = [value for value in values if all(_kind(value) in node.types for node in facts.nodes)]
        self.spend(len(values) / 8)
        if not values:
            raise self._refuse(facts.nodes[0], "no listed value has the type that is asked for")
        values.sort(key=_is_none)
        chosen = values[facts.option(len(values), _first(values, _is_none, draws, "enum"))]
        if draws.turn:
            chosen = values[draws.index(len(values), "enum")]
        text = orjson.dumps(chosen)
        self.spend(len(text) / 16)
        return [orjson.loads(text)]

    def _type(self, facts: _Facts, draws: _Draws) -> str:
        types = frozenset(_TYPES).intersection(*(node.types for node in facts.nodes))
        if "number" in types:
            types -= {"integer"}
        if not types:
            raise self._refuse(facts.nodes[0], "no type fits all its subschemas")
        if len(types) == 1:
            return next(iter(types))
        if not any("type" in node.schema for node in facts.nodes):
            implied = [kind for kind in _implied(facts.nodes) if kind in types]
            rest = sorted(types.difference(implied), key=_LIKELY.index)
            ordered = implied + rest
            return ordered[facts.option(len(ordered), 0)]
        ordered = sorted(types, key=_LIKELY.index)
        if facts.lean:
            ordered.sort(key=lambda kind: kind in ("object", "array"))
        first = 0 if facts.lean else _first(ordered, _is_null_type, draws, "type")
        return ordered[facts.option(len(ordered), first)]

    def _string(self, facts: _Facts, draws: _Draws, name: str) -> str:
        schemas = [node.schema for node in facts.nodes]
        low = int(max((schema["minLength"] for schema in schemas if "minLength" in schema), default=0))
        high = min((schema["maxLength"] for schema in schemas if "maxLength" in schema), default=inf)
        self.spend(low / 16)
        patterns, formats = facts.asked("pattern"), [name for name in facts.asked("format") if name in _FORMATS]
        if patterns and (not formats or facts.turn % 2 == 0):
            text = _matching(patterns[facts.turn // 2 % len(patterns)], draws, (low, high), self.spend)
        elif formats:
            text = _FORMATS[formats[facts.turn % len(formats)]](draws, low, high)
        else:
            text = _fitted(_said(name, draws), draws, low, high)
        if text is None:
            raise self._refuse(facts.nodes[0], "no text was found for its pattern")
        return text

    def _number(self, facts: _Facts, draws: _Draws, name: str, kind: str) -> int | float:
        number = _number([node.schema for node in facts.nodes], draws, name, whole=kind == "integer")
        if number is None:
            raise self._refuse(facts.nodes[0], "no number lies within its bounds")
        return number

    def _array(self, facts: _Facts, draws: _Draws, name: str, depth: int) -> list[Any]:
        low, high = facts.least("minItems"), facts.most("maxItems")
        wanted = [node for node in facts.nodes if "contains" in node.one and node.schema.get("minContains", 1) > 0]
        num_wanted = max((int(node.schema.get("minContains", 1)) for node in wanted), default=0)
        low = max(low, num_wanted)
        num = low if facts.lean else max(low, *(len(first) for first in _prefixes(facts)), 1 + draws.index(3, "items"))
        num = min(num, high) if high is not None else num
        first = facts.option(max(num - num_wanted, 0) + 1, 0) if wanted else 0
        unique = any(facts.asked("uniqueItems"))
        made, seen, turn = list[Any](), set[bytes](), 0
        while len(made) < num:
            nodes = [child for node in facts.nodes for child in _of_item(node, len(made))]
            nodes = nodes or [node.one["unevaluatedItems"] for node in facts.nodes if "unevaluatedItems" in node.one]
            nodes += [node.one["contains"] for node in wanted if first <= len(made) < first + num_wanted]
            place = _Draws(draws.streams, f"{draws.key}/items", draws.turn + turn) if unique else draws.at(len(made))
            turn += 1
            try:
                item = self._below(nodes, place, _singular(name), depth, facts.lean)
            except _NoValueError:
                if len(made) < low:
                    raise
                break
            written = orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
            if not unique or written not in seen:
                made.append(item)
                seen.add(written)
            elif turn > num + 2 * ATTEMPTS:
                if len(made) < low:
                    raise self._refuse(facts.nodes[0], f"fewer than {low} different items found")
                break
        return made

    def _below(self, nodes: list[_Node], draws: _Draws, name: str, depth: int, lean: bool) -> Any:
        """A part of a value: an item or a property."""
        if any(node.height > MAX_DEPTH - depth - 1 for node in nodes):
            raise self._refuse(nodes[0], "nothing may stand here")
        return self.value(nodes or [_ANYTHING], draws, name, depth + 1, lean=lean)

    def _of_property(self, node: _Node, name: str) -> list[_Node]:
        """The subschemas of a node for a property."""
        patterns = node.named.get("patternProperties", {})
        self.spend(len(patterns) // 4)
        found = [child for pattern, child in patterns.items() if self.plan.matches(pattern, name)]
        if name in node.named.get("properties", {}):
            found.append(node.named["properties"][name])
        if not found:
            found += [node.one[keyword] for keyword in ("additionalProperties",) if keyword in node.one]
        return found


_ANYTHING: Final = _Node((), {}, height=0)
_LIKELY: Final = ("string", "object", "array", "number", "integer", "boolean", "null")
_IMPLIED: Final = {
    "object": "properties required additionalProperties patternProperties minProperties maxProperties propertyNames "
    "dependentRequired dependentSchemas unevaluatedProperties",
    "array": "items prefixItems minItems maxItems uniqueItems contains unevaluatedItems",
    "string": "minLength maxLength pattern format",
    "number": "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf",
}


def _num_children(node: _Node) -> int:
    return sum(map(len, node.named.values())) + sum(map(len, node.many.values()))


def _in_place(times: Counter[_Node]) -> Iterator[tuple[_Node, int]]:
    """The nodes and all below them that look at the same value, each once, with how often it is reached."""
    order = [(-node.rank, number, node) for number, node in enumerate(times)]
    order.sort(key=lambda entry: entry[:2])
    while order:
        _, _, node = heappop(order)
        yield node, times[node]
        for child in node.in_place():
            if child not in times:
                heappush(order, (-child.rank, len(times), child))
            times[child] += times[node]


def _of_item(node: _Node, number: int) -> list[_Node]:
    """The subschemas of a node for an item."""
    first = node.many.get("prefixItems", [])
    if number < len(first):
        return [first[number]]
    return [node.one["items"]] if "items" in node.one else []


def _prefixes(facts: _Facts) -> list[list[_Node]]:
    return [[], *(node.many["prefixItems"] for node in facts.nodes if "prefixItems" in node.many)]


def _first(options: Sequence[Any], is_null: Callable[[Any], bool], draws: _Draws, what: str) -> int:
    """The option to begin with, in a list that ends with those for null."""
    num = sum(not is_null(option) for option in options)
    if num == 0 or (num < len(options) and draws.happens(NULL_SHARE, f"null {what}")):
        return num
    return draws.index(num, what)


def _is_null(node: _Node) -> bool:
    return node.types == {"null"} or ("const" in node.schema and node.schema["const"] is None)


def _is_none(value: Any) -> bool:
    return value is None


def _is_null_type(kind: str) -> bool:
    return kind == "null"


def _kind(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return "integer"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _implied(nodes: list[_Node]) -> list[str]:
    """The types that the keywords speak of, where no type is given."""
    keywords = set[str]().union(*(node.schema for node in nodes))
    return [kind for kind, about in _IMPLIED.items() if not keywords.isdisjoint(about.split())]


def _condition(node: _Node, facts: _Facts, draws: _Draws) -> list[_Node]:
    """Either `if` with `then`, or `else`; that `if` fails then is left to the check."""
    possible = node.one["if"].height < inf
    if possible and facts.option(2, draws.index(2, f"if {node.path}")) == 0:
        return [node.one[keyword] for keyword in ("if", "then") if keyword in node.one]
    return [node.one["else"]] if "else" in node.one else []


def _forbidden(node: _Node, facts: _Facts) -> list[str]:
    """A property that is left out to satisfy `not: {required: [...]}`."""
    names = node.schema["not"].get("required") if isinstance(node.schema.get("not"), dict) else None
    return [names[facts.option(len(names), 0)]] if names else []


class _ObjectMaker:
    """Makes one object."""

    def __init__(self, maker: _Maker, facts: _Facts, draws: _Draws, depth: int) -> None:
        self.maker, self.facts, self.draws, self.depth = maker, facts, draws, depth
        self.most = facts.most("maxProperties")
        declared = [node.named["properties"] for node in facts.nodes if "properties" in node.named]
        self.declared = list(dict.fromkeys(name for properties in declared for name in properties))
        maker.spend(sum(map(len, declared)) / 8)
        self.required = self._required()
        self.names = [node.one["propertyNames"] for node in facts.nodes if "propertyNames" in node.one]

    def made(self, name: str) -> dict[str, Any]:
        made: dict[str, Any] = {}
        room = inf if self.most is None else self.most
        optional = room - len(self.required)
        for declared in self._ordered():
            if declared in self.required:
                made[declared] = self._property(declared)
            elif optional > 0 and self._wanted(declared) and self._add(made, declared):
                optional -= 1
        self._fill(made, name)
        return made

    def _required(self) -> dict[str, None]:
        """The names that must be there, with those that they ask for."""
        dependent = [(name, more) for needs in self.facts.asked("dependentRequired") for name, more in needs.items()]
        required = dict.fromkeys(name for names in self.facts.asked("required") for name in names)
        pending = list(required)
        while pending:
            name = pending.pop()
            self.maker.spend(len(dependent) / 8)
            new = [other for when, more in dependent if when == name for other in more if other not in required]
            required.update(dict.fromkeys(new))
            pending += new
        return required

    def _ordered(self) -> list[str]:
        declared = set(self.declared)
        return self.declared + [name for name in self.required if name not in declared]

    def _wanted(self, name: str) -> bool:
        if self.facts.lean or self.maker.steps > LEAN_STEPS or name in self.facts.absent:
            return False
        return self.draws.happens(OPTIONAL_SHARE, f"property {name}")

    def _add(self, made: dict[str, Any], name: str) -> bool:
        """Adds an optional property where that is possible."""
        needs = [other for more in self.facts.asked("dependentRequired") for other in more.get(name, ())]
        if any(other not in self.required and other not in made for other in needs):
            return False
        if self.names and not self.maker._accept(self.names, name):
            return False
        try:
            made[name] = self._property(name)
        except _NoValueError:
            return False
        return True

    def _property(self, name: str) -> Any:
        self.maker.spend(len(name) / 16)
        nodes = [child for node in self.facts.nodes for child in self.maker._of_property(node, name)]
        left = "unevaluatedProperties"
        nodes = nodes or [node.one[left] for node in self.facts.nodes if left in node.one]
        return self.maker._below(nodes, self.draws.at(name), name, self.depth, self.facts.lean)

    def _fill(self, made: dict[str, Any], name: str) -> None:
        """Adds properties up to `minProperties`, and a few where names are free (a map)."""
        low = self.facts.least("minProperties")
        for declared in self.declared:
            if len(made) < low and declared not in made and declared not in self.facts.absent:
                self._add(made, declared)
        if not self.facts.lean and not self.declared and (self._is_map() or self.draws.turn):
            low = max(low, 1 + self.draws.index(3, "properties"))
        low = low if self.most is None else min(low, self.most)
        for number in range(low + 2 * ATTEMPTS):
            if len(made) >= low:
                return
            invented = self._name(number, name)
            if invented not in made and invented not in self.facts.absent:
                self._add(made, invented)

    def _is_map(self) -> bool:
        free = [node.schema.get("additionalProperties") for node in self.facts.nodes]
        return any(free) or any("patternProperties" in node.named for node in self.facts.nodes)

    def _name(self, number: int, name: str) -> str:
        """A name for a property that the schema does not name."""
        draws = _Draws(self.draws.streams, f"{self.draws.key}/name", self.draws.turn + number)
        if self.names:
            said = self.maker.value(self.names, draws, "key", self.depth, lean=False)
            return said if isinstance(said, str) else f"{said}"
        patterns = [pattern for node in self.facts.nodes for pattern in node.named.get("patternProperties", ())]
        if patterns and (number % 2 == 0 or False in self.facts.asked("additionalProperties")):
            said = _matching(patterns[draws.index(len(patterns), "pattern")], draws, (0, inf), self.maker.spend)
            return said if said is not None else ""
        word = _KEYS[draws.index(len(_KEYS), "word")]
        return word if number < len(_KEYS) else f"{word}_{number // len(_KEYS) + 1}"


# --------------------------------------------------------------------------------------------------------- numbers
@dataclass(slots=True)
class _Range:
    """All bounds on a number together; None where there is none."""

    low: Fraction | None = None
    high: Fraction | None = None
    without_low: bool = False
    without_high: bool = False

    def narrow(self, keyword: str, bound: Fraction) -> None:
        left_out = keyword.startswith("exclusive")
        if keyword.endswith("inimum"):
            if self.low is None or (bound, left_out) > (self.low, self.without_low):
                self.low, self.without_low = bound, left_out
        elif self.high is None or (-bound, left_out) > (-self.high, self.without_high):
            self.high, self.without_high = bound, left_out

    def window(self, usual: tuple[int, int], step: Fraction) -> tuple[Fraction, Fraction]:
        """Where to draw: the usual numbers as far as they are allowed, at least some steps wide."""
        first, last = map(Fraction, usual)
        if self.low is not None and self.high is not None:
            low, high = max(self.low, first), min(self.high, last)
            return (low, high) if low + 2 * step <= high else (self.low, self.high)
        width = max(last - first, 20 * step)
        if self.low is not None:
            return max(self.low, first), max(last, max(self.low, first) + width)
        if self.high is not None:
            return min(first, min(self.high, last) - width), min(self.high, last)
        return first, max(last, first + width)

    def holds(self, value: Fraction) -> bool:
        above = self.low is None or value > self.low or (value == self.low and not self.without_low)
        return above and (self.high is None or value < self.high or (value == self.high and not self.without_high))


@dataclass(frozen=True, slots=True)
class _Grid:
    """The numbers to draw from: `num` multiples of `step` from the `first`; those outside `allowed` are passed over."""

    allowed: _Range
    step: Fraction
    first: int
    num: int


@lru_cache(1024)
def _grid(asked: tuple[tuple[str, float], ...], usual: tuple[int, int], whole: bool) -> _Grid:
    """The grid for the bounds and divisors that are asked for, as (keyword, number)."""
    allowed = _Range()
    for keyword, bound in asked:
        if keyword != "multipleOf":
            allowed.narrow(keyword, _exact(bound))
    steps = [_exact(divisor) for keyword, divisor in asked if keyword == "multipleOf"]
    steps += [Fraction(1)] if whole else []
    if steps:
        step = _common(steps)
    else:
        low, high = allowed.window(usual, Fraction(1, 100))
        step = next((Fraction(1, 10**k) for k in range(1, 16) if (high - low) * 10**k >= 20), (high - low) / 16)
        step = step or abs(low) or Fraction(1)
    low, high = allowed.window(usual, step)
    first = ceil(low / step)
    return _Grid(allowed, step, first, floor(high / step) - first + 1)


_BOUNDING: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


def _exact(number: float) -> Fraction:
    return Fraction(str(number))  # 0.1 is a tenth here, as its writer meant


def _number(schemas: list[dict[str, Any]], draws: _Draws, name: str, *, whole: bool) -> int | float | None:
    """A number within all bounds, a multiple of every `multipleOf`; None when none of some was one."""
    asked = tuple((keyword, schema[keyword]) for schema in schemas for keyword in _BOUNDING if keyword in schema)
    grid = _grid(asked, _usual_numbers(name), whole)
    start = draws.index(grid.num, "number") if grid.num > 0 else 0
    for number in range(min(grid.num, 4 * ATTEMPTS)):
        exact = (grid.first + (start + number) % grid.num) * grid.step
        value = _as_json(exact, whole)
        if value is None or not grid.allowed.holds(exact):
            continue
        if all(_divides(value, part) for keyword, part in asked if keyword == "multipleOf"):
            return value
    return None


def _common(steps: list[Fraction]) -> Fraction:
    """The least common multiple."""
    least = steps[0]
    for step in steps[1:]:
        least = Fraction(lcm(least.numerator, step.numerator), gcd(least.denominator, step.denominator))
    return least


def _as_json(exact: Fraction, whole: bool) -> int | float | None:
    """The number as JSON libraries can carry it: integers of 64 bits, or floats; None beyond."""
    if whole:
        return exact.numerator if -(2**63) <= exact < 2**64 else None
    try:
        return float(exact)
    except OverflowError:
        return None


def _divides(value: float, step: float) -> bool:
    """Whether validators that divide floats agree that it is a multiple."""
    try:
        return float(value / step).is_integer()
    except OverflowError:
        return value % step == 0


# ----------------------------------------------------------------------------------------------------------- texts
def _fitted(text: str, draws: _Draws, low: int, high: float) -> str:
    """The text, continued to `low` characters or cut to `high`."""
    if len(text) < low:
        parts = [text]
        num = len(text)
        while num < low:
            parts.append(_WORDS[draws.at(len(parts)).index(len(_WORDS), "word")])
            num += 1 + len(parts[-1])
        text = " ".join(parts)
    if len(text) <= high:
        return text
    text = text[: int(high)]
    whole_words = text.rpartition(" ")[0]
    return whole_words if len(whole_words) >= max(low, 1) else text


def _said(name: str, draws: _Draws) -> str:
    """A phrase for a property by the words in its name, the last first: `home_city` is a city."""
    words = _name_words(name)
    for word in reversed(words):
        if word in _NAMED_FORMATS:
            return _FORMATS[_NAMED_FORMATS[word]](draws, 0, inf)
        if word in _PHRASES:
            return _PHRASES[word][draws.index(len(_PHRASES[word]), "phrase")]
    phrase = _PHRASES["text"][draws.index(len(_PHRASES["text"]), "phrase")]
    return (
        f"{' '.join(words).capitalize()}: {phrase[0].lower()}{phrase[1:]}" if words and 4 <= len(name) <= 40 else phrase
    )


_WORD: Final = compile_regex(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@lru_cache(4096)
def _name_words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name[:100])]


def _singular(name: str) -> str:
    return name[:-3] + "y" if name.endswith("ies") else name.removesuffix("s")


def _digits(draws: _Draws, what: str, num: int) -> str:
    return f"{draws.index(10**num, what):0{num}d}"


def _date(draws: _Draws, low: int, high: float) -> str:
    day = draws.index(3 * 12 * 28, "date")
    return f"{2024 + day // 336}-{1 + day // 28 % 12:02d}-{1 + day % 28:02d}"


def _time(draws: _Draws, low: int, high: float) -> str:
    quarter = draws.index(24 * 4, "time")
    return f"{quarter // 4:02d}:{quarter % 4 * 15:02d}:00" + ("Z" if high < 14 or low <= 9 else "+00:00")


def _date_time(draws: _Draws, low: int, high: float) -> str:
    fraction = "." + "0" * min(max(low - 21, 1), 9) if low > 20 else ""
    return f"{_date(draws, 0, inf)}T{_time(draws, 0, inf)[:8]}{fraction}Z"


def _duration(draws: _Draws, low: int, high: float) -> str:
    minutes = 5 + 5 * draws.index(40, "duration")
    return f"PT{minutes}M" if high >= 6 else f"P{1 + minutes % 9}D"


def _hostname(draws: _Draws, low: int, high: float) -> str:
    host = f"{_WORDS[draws.index(len(_WORDS), 'host')]}.example.com"
    labels = max(0, low - len(host)) // 40
    host = "".join(f"{'abcd'[number % 4] * 39}." for number in range(labels)) + host
    return "w" * (low - len(host) - 1) + "." + host if low > len(host) + 1 else host if len(host) <= high else "a.io"


def _email(draws: _Draws, low: int, high: float) -> str:
    given, host = _GIVEN[draws.index(len(_GIVEN), "given")].lower(), _HOSTS[draws.index(len(_HOSTS), "host")]
    local = given if low <= len(given) + 1 + len(host) else f"{given}.{_digits(draws, 'local', 6)}"
    text = f"{local}@{host}"
    if len(text) < low:
        text = f"{local}@{_hostname(draws, low - len(local) - 1, inf)}"
    return text if len(text) <= high else f"{given[0]}@a.io"


def _uri(draws: _Draws, low: int, high: float) -> str:
    word = _WORDS[draws.index(len(_WORDS), "path")]
    text = f"https://{_HOSTS[draws.index(len(_HOSTS), 'host')]}/{word}-{_digits(draws, 'page', 3)}"
    return text + "x" * (low - len(text)) if len(text) <= high else f"http://{word[:1]}.io"


def _uuid(draws: _Draws, low: int, high: float) -> str:
    text = f"{draws.index(2**64, 'uuid'):016x}{draws.index(2**60, 'uuid tail'):015x}"
    return f"{text[:8]}-{text[8:12]}-4{text[12:15]}-{'89ab'[draws.index(4, 'variant')]}{text[15:18]}-{text[18:30]}"


def _ipv4(draws: _Draws, low: int, high: float) -> str:
    number = draws.index(2**16, "ipv4")
    return f"192.0.2.{1 + number % 254}" if high >= 11 else f"10.0.0.{1 + number % 9}"  # 192.0.2.0/24: RFC 5737


def _ipv6(draws: _Draws, low: int, high: float) -> str:
    number = 1 + draws.index(2**15, "ipv6")
    return f"2001:db8::{number:x}" if low <= 15 else f"2001:0db8:0000:0000:0000:0000:0000:{number:04x}"  # RFC 3849


def _pointer(draws: _Draws, low: int, high: float) -> str:
    return f"/items/{draws.index(10, 'pointer')}" + "0" * (low - 8)


_FORMATS: Final[dict[str, Callable[[_Draws, int, float], str]]] = {
    "date": _date,
    "date-time": _date_time,
    "time": _time,
    "duration": _duration,
    "email": _email,
    "idn-email": _email,
    "hostname": _hostname,
    "idn-hostname": _hostname,
    "uri": _uri,
    "uri-reference": _uri,
    "iri": _uri,
    "iri-reference": _uri,
    "uri-template": _uri,
    "uuid": _uuid,
    "ipv4": _ipv4,
    "ipv6": _ipv6,
    "json-pointer": _pointer,
    "relative-json-pointer": lambda draws, low, high: str(draws.index(10, "pointer")),
    "regex": lambda draws, low, high: f"^[a-z]{{{1 + draws.index(9, 'regex')}}}$",
}


# -------------------------------------------------------------------------------------------------------- patterns
def _matching(pattern: str, draws: _Draws, length: tuple[int, float], spend: Callable[[float], None]) -> str | None:
    """A text that holds a match of the pattern and has an allowed length; None when none was found.

    A pattern need not be anchored, and lookaround is not followed: the caller checks the text.
    """
    tree = _tree(pattern)
    if tree is None:
        return None
    low, high = length
    for full in (False, True, False):  # every repetition as often as the others, or each by a draw
        few, many, more = -1, None, 6
        while few < more and more != many:
            writer = _Writer(draws.at(f"{more}{full}"), more, full)
            text = writer.write(tree)
            spend(writer.num_steps / 4)
            if text is not None and len(text) < low and not ("^" in pattern or "$" in pattern):
                text += "x" * (low - len(text))
            if text is not None and low <= len(text) <= high:
                return text
            if text is None or len(text) > high:
                many, more = more, (few + more) // 2
            elif many is None:
                if few >= 0:
                    break  # repeating more often did not help
                few, more = more, more + low - len(text)
            else:
                few, more = more, (more + many) // 2
    return None


@lru_cache(256)
def _tree(pattern: str) -> Any:
    """Python's parse of an ECMA pattern; None for what it cannot say and for deep nesting."""
    if len(pattern) > 4_000 or pattern.count("(") > 40:
        return None
    try:
        return regex.parse(_in_python(pattern))
    except (regex_error, OverflowError):
        return None


_ECMA: Final = compile_regex(
    r"\\[pP]\{(\w\w?)[^}]*\}|\\u\{([0-9a-fA-F]{1,6})\}|\(\?<(\w+)>|\\c([A-Za-z])|\\.|[\[\]]|[&~|]|--",
    DOTALL,
)


def _in_python(pattern: str) -> str:
    """The pattern in Python's syntax, as far as the two differ."""
    inside = False

    def translated(found: Match[str]) -> str:
        nonlocal inside
        category, point, group, control = found.groups()
        text = found[0]
        if category:
            letters = _CATEGORIES.get(category) or _CATEGORIES.get(category[0], "a-z") if text[1] == "p" else "0-9 "
            return letters if inside else f"[{letters}]"
        if text in "[]":
            nested, inside = inside, text == "["
            return "\\[" if nested and inside else text
        if text[0] in "&~|-":  # doubled in a class they warn of a meaning to come
            return f"\\{text}" if inside else text
        if point or control:
            return regex_escape(chr(int(point, 16) if point else ord(control) % 32))
        if group:
            return f"(?P<{group}>"
        return text if text[1].isalnum() else regex_escape(text[1])

    return _ECMA.sub(translated, pattern)


_CATEGORIES: Final = {"L": "a-zA-Z", "Lu": "A-Z", "Ll": "a-z", "N": "0-9", "P": "!-.", "Z": " ", "S": "+<>="}
_PRINTABLE: Final = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ -_.,:;!?+*/=@#%&()[]{}<>'\"\n\t"
_KNOWN: Final = {
    "CATEGORY_DIGIT": "0123456789",
    "CATEGORY_WORD": "abcdefghijklmnopqrstuvwxyz0123456789_",
    "CATEGORY_SPACE": " ",
}


class _Writer:
    """Writes one text along the tree of a pattern; it repeats at most (`full`: always) `more` times beyond the least."""

    def __init__(self, draws: _Draws, more: int, full: bool) -> None:
        self.draws, self.more, self.full = draws, more, full
        self.num_steps = 0
        self.groups: dict[int, str] = {}

    def write(self, tree: Any) -> str | None:
        """The text; None when it would be too long to be of use."""
        parts = []
        for operation, argument in tree:
            self.num_steps += 1
            if self.num_steps > 2 * MAX_LENGTH:
                return None
            part = self._piece(str(operation), argument)
            if part is None:
                return None
            parts.append(part)
        return "".join(parts)

    def _piece(self, operation: str, argument: Any) -> str | None:
        match operation:
            case "LITERAL":
                return chr(argument)
            case "NOT_LITERAL" | "ANY" | "IN":
                return self._letter(operation, argument)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                return self._repeated(*argument)
            case "BRANCH":
                return self.write(argument[1][self._index(len(argument[1]))])
            case "SUBPATTERN":
                return self._group(argument[0], argument[3])
            case "ATOMIC_GROUP":
                return self.write(argument)
            case "GROUPREF":
                return self.groups.get(argument, "")
            case _:  # anchors and lookaround have no text of their own
                return ""

    def _index(self, num: int) -> int:
        return self.draws.index(num, f"pattern {self.num_steps}")

    def _group(self, number: int | None, tree: Any) -> str | None:
        text = self.write(tree)
        if number is not None and text is not None:
            self.groups[number] = text
        return text

    def _repeated(self, low: int, high: Any, tree: Any) -> str | None:
        most = min(int(high), low + self.more)
        num = most if self.full else low + self._index(most - low + 1)
        parts = []
        for _ in range(num):
            part = self.write(tree)
            if part is None:
                return None
            parts.append(part)
        return "".join(parts)

    def _letter(self, operation: str, argument: Any) -> str:
        if operation == "ANY":
            return _PRINTABLE[self._index(26)]
        if operation == "NOT_LITERAL":
            letters = [letter for letter in _PRINTABLE[:62] if ord(letter) != argument]
            return letters[self._index(len(letters))]
        ranges = _ranges(tuple(argument))
        part = ranges[self._index(len(ranges))]
        if isinstance(part, str):
            return part[self.draws.index(len(part), f"letter {self.num_steps}")]
        return chr(part.start + self.draws.index(len(part), f"letter {self.num_steps}"))


@lru_cache(1024)
def _ranges(members: tuple[tuple[Any, Any], ...]) -> list[range | str]:
    """The letters of a character class."""
    ranges = [_letters(str(kind), value) for kind, value in members if str(kind) != "NEGATE"]
    if str(members[0][0]) != "NEGATE":
        return ranges
    left = [letter for letter in _PRINTABLE if not any(_within(letter, part) for part in ranges)]
    return ["".join(left[:26]) or "\u00e9"]


def _letters(kind: str, value: Any) -> range | str:
    """The letters of one member of a character class."""
    if kind == "LITERAL":
        return range(value, value + 1)
    if kind == "RANGE":
        return range(value[0], value[1] + 1)
    name = str(value)
    if name in _KNOWN:
        return _KNOWN[name]
    without = _KNOWN.get(name.replace("_NOT_", "_"), "").upper() + _KNOWN.get(name.replace("_NOT_", "_"), "")
    return "".join(letter for letter in _PRINTABLE if letter not in without and not letter.isspace())


def _within(letter: str, part: range | str) -> bool:
    return letter in part if isinstance(part, str) else ord(letter) in part


# ----------------------------------------------------------------------------------------------------------- words
# fmt: off
_WORDS: Final = [
    "morning", "meeting", "garden", "report", "river", "market", "window", "letter", "summer", "music",
    "season", "project", "answer", "picture", "village", "station", "harbor", "journey", "kitchen", "library",
    "mountain", "evening", "forest", "bridge", "teacher", "doctor", "weather", "planning", "budget", "review",
]
# fmt: on
# fmt: off
_KEYS: Final = [
    "north", "south", "east", "west", "first", "second", "third", "total", "average", "other",
]
# fmt: on
# fmt: off
_GIVEN: Final = [
    "Alice", "Bruno", "Carla", "David", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kenji", "Laura",
    "Mateo", "Nadia", "Oscar", "Priya",
]
# fmt: on
_HOSTS: Final = ("example.com", "example.org", "example.net", "docs.example.com", "shop.example.org")
_NAMED_FORMATS: Final = {
    "email": "email",
    "mail": "email",
    "date": "date",
    "birthday": "date",
    "deadline": "date",
    "day": "date",
    "time": "time",
    "timestamp": "date-time",
    "datetime": "date-time",
    "at": "date-time",
    "url": "uri",
    "uri": "uri",
    "link": "uri",
    "website": "uri",
    "href": "uri",
    "uuid": "uuid",
    "guid": "uuid",
    "id": "uuid",
    "ip": "ipv4",
    "host": "hostname",
    "hostname": "hostname",
    "domain": "hostname",
    "duration": "duration",
}
_PLACES: Final = (
    "Paris",
    "Berlin",
    "Tokyo",
    "Lisbon",
    "Toronto",
    "Nairobi",
    "San Francisco",
    "Melbourne",
    "Oslo",
    "Lima",
)
_STREETS: Final = ("12 Oak Street", "48 Market Street", "7 Harbor Road", "105 Garden Avenue", "31 Station Road")
_TITLES: Final = (
    "A quiet morning at the harbor",
    "Notes on the spring budget",
    "Planning the summer journey",
    "What the weather changed",
    "The library project, second draft",
    "Three answers for the review",
)
_SENTENCES: Final = (
    "The numbers agree with what was planned in the spring.",
    "Rain is expected in the afternoon, with light wind.",
    "The first option costs less and takes a day longer.",
    "Nothing else has to be changed before the review.",
    "Both sides are divided by the same factor.",
    "The meeting was moved to the following week.",
    "A short walk from the station leads to the market.",
    "The result follows from the two steps before it.",
)
_PHRASES: Final[dict[str, tuple[str, ...] | list[str]]] = {
    "text": _SENTENCES,
    "explanation": _SENTENCES,
    "description": _SENTENCES,
    "reason": _SENTENCES,
    "reasoning": _SENTENCES,
    "summary": _SENTENCES,
    "content": _SENTENCES,
    "message": _SENTENCES,
    "body": _SENTENCES,
    "comment": _SENTENCES,
    "answer": _SENTENCES,
    "title": _TITLES,
    "subject": _TITLES,
    "heading": _TITLES,
    "label": ("Continue", "Save changes", "Cancel", "Show details", "Send", "Try again"),
    "city": _PLACES,
    "location": _PLACES,
    "place": _PLACES,
    "destination": _PLACES,
    "origin": _PLACES,
    "country": ("France", "Japan", "Canada", "Portugal", "Kenya", "Peru", "Norway", "Australia"),
    "address": _STREETS,
    "street": _STREETS,
    "name": [f"{given} {family}" for given in _GIVEN for family in ("Martin", "Silva", "Tanaka", "Okafor", "Jensen")],
    "participant": _GIVEN,
    "person": _GIVEN,
    "author": _GIVEN,
    "user": _GIVEN,
    "phone": [f"+1-202-555-01{number:02d}" for number in range(100)],  # the range that is kept free for fiction
    "zip": ("10115", "75004", "94103", "00187", "30301"),
    "currency": ("EUR", "USD", "JPY", "GBP", "CAD"),
    "language": ("English", "French", "Spanish", "German", "Japanese", "Portuguese"),
    "unit": ("celsius", "kilometers", "hours", "kilograms"),
    "color": ("red", "green", "blue", "amber", "violet", "gray"),
    "category": ("travel", "finance", "health", "education", "music", "sports"),
    "tag": _WORDS,
    "keyword": _WORDS,
    "status": ("open", "in progress", "done", "waiting"),
    "query": ("weather this weekend", "train times tomorrow", "budget report spring", "library opening hours"),
    "expression": ("8x + 7 = -23", "8x = -30", "x = -30 / 8", "x = -3.75", "2(x + 1) = 10"),
    "output": ("8x = -30", "x = -3.75", "x = 4", "y = 2x + 1"),
    "code": ("return a + b", "print(total)", "items.sort()", "len(words) > 3"),
    "path": ("reports/spring.md", "notes/review.txt", "data/weather.csv", "images/harbor.png"),
    "file": ("spring.md", "review.txt", "weather.csv", "harbor.png"),
    "symbol": ("ACME", "GLBX", "INTR", "UMBR"),
}
_USUAL: Final = {
    "age": (18, 80),
    "year": (1990, 2030),
    "month": (1, 12),
    "day": (1, 28),
    "hour": (0, 23),
    "minute": (0, 59),
    "latitude": (-60, 70),
    "longitude": (-180, 180),
    "lat": (-60, 70),
    "lon": (-180, 180),
    "temperature": (-5, 35),
    "price": (5, 500),
    "amount": (5, 500),
    "cost": (5, 500),
    "confidence": (0, 1),
    "probability": (0, 1),
    "x": (0, 1000),
    "y": (0, 1000),
    "count": (1, 10),
    "quantity": (1, 10),
    "limit": (1, 50),
}


def _usual_numbers(name: str) -> tuple[int, int]:
    """The range of numbers usual for a property, by the words in its name, the last first."""
    return next((_USUAL[word] for word in reversed(_name_words(name)) if word in _USUAL), (1, 100))
