"""Values for schemas: they validate under another validator than the one the code uses, and hostile schemas end soon."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from fractions import Fraction
from types import FrameType
from typing import Any, TypeVar

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mockllm.content.schema import SchemaError, check_schema, value_for
from mockllm.streams import Streams

FORMATS = ("date", "date-time", "time", "duration", "email", "uuid", "uri", "ipv4", "ipv6", "hostname")
STREAMS = Streams(7)


def is_valid(schema: Any, value: Any) -> bool:
    """The oracle: the Python validator, with formats."""
    return bool(Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).is_valid(value))


def values(schema: Any, num: int = 60) -> list[Any]:
    return [value_for(schema, STREAMS, f"key {number}") for number in range(num)]


def closed(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An object as strict structured outputs ask for it."""
    names = list(properties)
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False, **more}


CALENDAR_EVENT = closed(
    {
        "name": {"type": "string"},
        "date": {"type": "string"},
        "participants": {"type": "array", "items": {"type": "string"}},
    }
)
MATH_STEPS = closed(
    {
        "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}},
        "final_answer": {"type": "string"},
    },
    **{"$defs": {"step": closed({"explanation": {"type": "string"}, "output": {"type": "string"}})}},
)
USER_INTERFACE = closed(
    {
        "type": {"type": "string", "enum": ["div", "button", "header", "section", "field", "form"]},
        "label": {"type": "string", "description": "The label of the component, used for buttons or form fields"},
        "children": {"type": "array", "items": {"$ref": "#"}},
        "attributes": {
            "type": "array",
            "items": closed({"name": {"type": "string"}, "value": {"type": "string"}}),
        },
    }
)
LINKED_LIST = closed(
    {"linked_list": {"$ref": "#/$defs/linked_list_node"}},
    **{
        "$defs": {
            "linked_list_node": closed(
                {
                    "value": {"type": "number"},
                    "next": {"anyOf": [{"$ref": "#/$defs/linked_list_node"}, {"type": "null"}]},
                }
            )
        }
    },
)
GET_WEATHER = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
    },
    "required": ["location"],
}
COMPUTER_USE = {
    "type": "object",
    "properties": {
        "action": {"type": "string", "enum": ["key", "type", "mouse_move", "left_click", "screenshot", "scroll"]},
        "coordinate": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 4096},
            "minItems": 2,
            "maxItems": 2,
        },
        "text": {"type": "string"},
        "scroll_direction": {"enum": ["up", "down", "left", "right"]},
        "duration": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 60},
    },
    "required": ["action"],
}
PYDANTIC_ORDER = {
    "$defs": {
        "Address": {
            "type": "object",
            "title": "Address",
            "properties": {"street": {"type": "string"}, "zip": {"type": "string", "pattern": r"^\d{5}(-\d{4})?$"}},
            "required": ["street", "zip"],
        },
        "Card": {
            "type": "object",
            "properties": {"kind": {"const": "card"}, "last4": {"type": "string", "pattern": "^[0-9]{4}$"}},
            "required": ["kind", "last4"],
        },
        "Transfer": {
            "type": "object",
            "properties": {"kind": {"const": "transfer"}, "iban": {"type": "string", "minLength": 15, "maxLength": 34}},
            "required": ["kind", "iban"],
        },
    },
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "email": {"type": "string", "format": "email"},
        "placed_at": {"type": "string", "format": "date-time"},
        "total": {"type": "number", "minimum": 0, "multipleOf": 0.01},
        "ship_to": {"anyOf": [{"$ref": "#/$defs/Address"}, {"type": "null"}], "default": None},
        "payment": {
            "oneOf": [{"$ref": "#/$defs/Card"}, {"$ref": "#/$defs/Transfer"}],
            "discriminator": {"propertyName": "kind"},
        },
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "sizes": {"type": "array", "items": {"enum": ["S", "M", "L"]}, "uniqueItems": True, "minItems": 3},
    },
    "required": ["id", "payment", "total"],
}
INHERITANCE = {
    "definitions": {
        "animal": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        "dog": {
            "allOf": [
                {"$ref": "#/definitions/animal"},
                {"properties": {"bark": {"type": "boolean"}}, "required": ["bark"]},
            ],
            "unevaluatedProperties": False,
        },
    },
    "type": "array",
    "items": {"$ref": "#/definitions/dog"},
    "minItems": 1,
}
CONDITIONS = {
    "type": "object",
    "properties": {"country": {"enum": ["US", "NL"]}, "code": {"type": "string"}},
    "required": ["country", "code"],
    "if": {"properties": {"country": {"const": "US"}}},
    "then": {"properties": {"code": {"pattern": "^[0-9]{5}$"}}},
    "else": {"properties": {"code": {"pattern": "^[0-9]{4} [A-Z]{2}$"}}},
}
TYPELESS = {
    "properties": {"query": {}, "filters": {"items": {"required": ["field"]}}, "limit": {"minimum": 3, "maximum": 5}},
    "required": ["query", "filters", "limit"],
    "dependentRequired": {"query": ["page"]},
    "dependentSchemas": {"page": {"properties": {"page": {"type": "integer"}}}},
    "propertyNames": {"pattern": "^[a-z_]+$"},
    "minProperties": 4,
    "not": {"required": ["cursor"]},
}
TUPLES = {
    "type": "array",
    "prefixItems": [{"const": "point"}, {"type": "number"}, {"type": "number"}],
    "items": False,
    "minItems": 3,
    "contains": {"type": "number", "exclusiveMaximum": 0},
}
REAL = {
    "calendar event": CALENDAR_EVENT,
    "math steps": MATH_STEPS,
    "user interface": USER_INTERFACE,
    "linked list": LINKED_LIST,
    "get_weather": GET_WEATHER,
    "computer use": COMPUTER_USE,
    "pydantic order": PYDANTIC_ORDER,
    "inheritance": INHERITANCE,
    "conditions": CONDITIONS,
    "typeless": TYPELESS,
    "tuples": TUPLES,
    "anything": True,
    "empty": {},
    "no object in particular": {"type": "object"},
}


@pytest.mark.parametrize("name", REAL)
def test_values_for_schemas_as_they_are_sent_validate(name: str) -> None:
    check_schema(REAL[name])
    for value in values(REAL[name]):
        assert is_valid(REAL[name], value), value


def test_the_oracle_looks_at_every_format() -> None:
    assert set(FORMATS) <= Draft202012Validator.FORMAT_CHECKER.checkers.keys()
    assert not is_valid({"format": "uri"}, "not a uri")


def test_a_recursion_ends_after_a_few_levels() -> None:
    def depth(component: Any) -> int:
        return 1 + max((depth(child) for child in component["children"]), default=0)

    depths = [depth(value) for value in values(USER_INTERFACE)]
    assert 2 <= max(depths) <= 4


def test_most_optional_properties_are_present_and_few_values_are_null() -> None:
    made = values(COMPUTER_USE, 400)
    share = sum(len(value) - 1 for value in made) / (4 * len(made))
    assert 0.85 < share < 0.95
    durations = [value["duration"] for value in made if "duration" in value]
    assert 0 < sum(duration is None for duration in durations) < 0.25 * len(durations)
    assert all("coordinate" not in value or len(value["coordinate"]) == 2 for value in made)


def test_nullable_of_openapi_never_gives_null() -> None:
    schema = {"type": "string", "nullable": True, "enum": ["a", "b"]}
    assert set(values(schema)) == {"a", "b"}


def test_texts_are_about_their_property() -> None:
    schema = closed(
        {name: {"type": "string"} for name in ("home_city", "contactEmail", "start_date", "website", "mood")}
    )
    for value in values(schema, 20):
        assert value["home_city"].replace(" ", "").isalpha()
        assert is_valid({"format": "email"}, value["contactEmail"])
        assert is_valid({"format": "date"}, value["start_date"])
        assert value["website"].startswith("https://")
        assert value["mood"].startswith("Mood: ")


def test_the_same_seed_and_key_give_the_same_value_and_others_another() -> None:
    for schema in (PYDANTIC_ORDER, MATH_STEPS, USER_INTERFACE):
        first = values(schema, 30)
        assert first == [value_for(orjson.loads(orjson.dumps(schema)), Streams(7), f"key {n}") for n in range(30)]
        assert first != [value_for(schema, Streams(8), f"key {n}") for n in range(30)]
        assert len({orjson.dumps(value) for value in first}) > 25


def test_another_property_does_not_change_the_first() -> None:
    one = closed({"city": {"type": "string"}, "price": {"type": "number"}})
    two = closed({"mood": {"type": "string"}, **one["properties"]})
    for number in range(20):
        less, more = (value_for(schema, STREAMS, str(number)) for schema in (one, two))
        assert (less["city"], less["price"]) == (more["city"], more["price"])


def test_a_value_belongs_to_its_caller() -> None:
    schema = {"enum": [{"tags": ["a"]}]}
    value_for(schema, STREAMS, "k")["tags"].append("b")
    assert value_for(schema, STREAMS, "k") == {"tags": ["a"]}


# ------------------------------------------------------------------------------------------------------- texts
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("bounds", [{}, {"minLength": 12}, {"maxLength": 40}])
def test_formats(name: str, bounds: dict[str, int]) -> None:
    schema = {"type": "string", "format": name, **bounds}
    if name in ("date", "time", "ipv4", "duration") and "minLength" in bounds:
        return  # these have a length of their own
    made = values(schema)
    assert all(is_valid(schema, value) for value in made)
    assert len(set(made)) > 10


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_texts_have_the_length_that_is_asked_for(low: int, more: int) -> None:
    for name in ("note", "city", ""):
        text = value_for(closed({name: {"type": "string", "minLength": low, "maxLength": low + more}}), STREAMS, "k")[
            name
        ]
        assert low <= len(text) <= low + more


PATTERNS = [
    r"^\d{3}-\d{4}$",
    r"^[A-Z]{2}\d{2}[A-Z0-9]{11,30}$",
    r"^#(?:[0-9a-fA-F]{3}){1,2}$",
    r"^(GET|POST|PUT|DELETE) /[a-z/]*$",
    r"^[a-z0-9]+(?:-[a-z0-9]+)*$",
    r"^[\w.+-]+@[\w-]+\.[a-z]{2,}$",
    r"^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$",
    r"^@[A-Za-z0-9_]{1,15}$",
    r"^[^\s,;]{4,9}$",
    r"^(?P<letter>[ab])x\1$",
    r"^([ab])\1\1$",
    r"b+$",
    r"^\S+ \S+$",
    r"^[\[\]a-c]{3}$",
    r"^\W\D$",
    r"^.{5,8}$",
    r"^(?=.*[0-9])[a-z0-9]{8}$",
    r"^(a+)+$",
    "x|y|z{3}",
    "",
    "^[\\u0000-\\uffff]{40}$",  # halves of surrogate pairs lie in between
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_texts_match_their_pattern(pattern: str) -> None:
    for text in values({"type": "string", "pattern": pattern.replace("?P<", "?<")}, 30):
        assert re.search(pattern, text), text


@pytest.mark.parametrize(
    ("pattern", "in_python"),
    [
        (r"^\p{Lu}\p{Ll}+$", r"^[A-Z][a-z]+$"),
        (r"^[\p{L}' -]{3,20}$", r"^[A-Za-z' -]{3,20}$"),
        (r"^\/v1\/\w+$", r"^/v1/\w+$"),
        (r"^\u0041\x42$", r"^AB$"),
        (r"^[&&~~|a]{3}$", r"^[&~|a]{3}$"),
    ],
)
def test_patterns_that_only_ecma_writes_so(pattern: str, in_python: str) -> None:
    for text in values({"type": "string", "pattern": pattern}, 20):
        assert re.search(in_python, text), text


def test_patterns_and_lengths_together() -> None:
    for text in values({"pattern": "^[a-z]+(-[a-z]+)*$", "minLength": 40, "maxLength": 60, "type": "string"}, 20):
        assert re.search("^[a-z]+(-[a-z]+)*$", text)
        assert 40 <= len(text) <= 60


# ----------------------------------------------------------------------------------------------------- numbers
@settings(deadline=None)
@given(
    st.sampled_from(["integer", "number"]),
    st.fractions(-1000, 1000, max_denominator=4),
    st.fractions(0, 1000, max_denominator=4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 1, 2, 7, 0.5, 0.25, 0.1, 0.01]),
)
def test_numbers_lie_within_their_bounds(
    kind: str, low: Fraction, width: Fraction, open_low: bool, open_high: bool, divisor: float | None
) -> None:
    step = max(Fraction(1) if kind == "integer" else Fraction(1, 1000), Fraction(str(divisor or 0)))
    high = low + width + 3 * step  # room for a multiple of any of the divisors
    schema: dict[str, Any] = {"type": kind, "exclusiveMinimum" if open_low else "minimum": float(low)}
    schema["exclusiveMaximum" if open_high else "maximum"] = float(high)
    if divisor is not None:
        schema["multipleOf"] = divisor
    value = value_for(schema, STREAMS, "k")
    exact = Fraction(str(value))
    assert low <= exact <= high
    assert not (open_low and exact == low)
    assert not (open_high and exact == Fraction(float(high)))
    assert divisor is None or (exact / Fraction(str(divisor))).denominator == 1
    assert kind == "number" or isinstance(value, int)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "number", "minimum": 0.5, "maximum": 0.50000001},
        {"type": "number", "minimum": 3, "maximum": 3},
        {"type": "number", "minimum": 1e308},
        {"type": "number", "maximum": -1e308},
        {"type": "integer", "minimum": 2**63},
        {"type": "integer", "exclusiveMinimum": 2.5, "exclusiveMaximum": 3.5},
        {"type": "integer", "multipleOf": 2.5},
        {"type": "integer", "multipleOf": 1000},
        {"type": "number", "multipleOf": 1e300},
        {"allOf": [{"multipleOf": 4}, {"multipleOf": 6}], "type": "integer", "minimum": 13},
    ],
)
def test_numbers_at_the_edges(schema: dict[str, Any]) -> None:
    assert all(is_valid(schema, value) for value in values(schema, 20))


# -------------------------------------------------------------------------------------------------------- laws
NAMES = st.sampled_from(["a", "b", "city", "id", "x y", "é/~"])
TYPES = ["string", "number", "integer", "boolean", "null", "object", "array"]
SMALL = st.integers(0, 4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["a", "b", "", 1.5]),
    lambda part: st.lists(part, max_size=2) | st.dictionaries(NAMES, part, max_size=2),
    max_leaves=3,
)


def optional(**keywords: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keywords)


LEAVES = st.one_of(
    st.just(True),
    optional(
        type=st.just("string"),
        minLength=SMALL,
        maxLength=st.integers(2, 12),
        pattern=st.sampled_from(["^a", "b+$", "^[a-z]{2,5}$", "x|y", r"[^\s]{3}"]),
    ),
    optional(
        type=st.sampled_from(["number", "integer"]),
        minimum=st.integers(-9, 9) | st.floats(-9, 9),
        maximum=st.integers(-2, 30),
        exclusiveMinimum=st.integers(-9, 9),
        exclusiveMaximum=st.integers(5, 40),
        multipleOf=st.sampled_from([1, 2, 3, 0.5, 0.1, 0.01, 7]),
    ),
    st.fixed_dictionaries({"type": st.just("string"), "format": st.sampled_from(FORMATS)}),
    st.fixed_dictionaries({"type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, unique=True)}),
    st.fixed_dictionaries({"enum": st.lists(JSON, min_size=1, max_size=4)}),
    st.fixed_dictionaries({"const": JSON}),
    st.sampled_from([{"$ref": "#"}, {"$ref": "#/$defs/d"}]),
)


def nested(part: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = optional(
        type=st.just("object"),
        properties=st.dictionaries(NAMES, part, max_size=4),
        required=st.lists(NAMES, max_size=3, unique=True),
        additionalProperties=part | st.just(False),
        patternProperties=st.dictionaries(st.sampled_from(["^a", "^[b-d]$", "y"]), part, max_size=2),
        minProperties=SMALL,
        maxProperties=st.integers(1, 6),
        propertyNames=st.sampled_from([{"maxLength": 4}, {"pattern": "^[a-z]+$"}, {"enum": ["a", "b", "c"]}]),
        dependentRequired=st.just({"a": ["b"]}),
        dependentSchemas=st.fixed_dictionaries({"a": part}),
        unevaluatedProperties=st.just(False),
    )
    arrays = optional(
        type=st.just("array"),
        items=part,
        prefixItems=st.lists(part, min_size=1, max_size=2),
        minItems=SMALL,
        maxItems=st.integers(1, 6),
        uniqueItems=st.just(True),
        contains=part,
        minContains=st.integers(0, 2),
        unevaluatedItems=st.just(False),
    )
    several = st.lists(part, min_size=1, max_size=3)
    branches = optional(
        anyOf=several, oneOf=several, allOf=several, **{"not": part, "if": part, "then": part, "else": part}
    )
    return st.one_of(objects, arrays, branches, st.builds(lambda one, two: {**one, **two}, objects, branches))


SCHEMAS = st.recursive(LEAVES, nested, max_leaves=8)


@settings(max_examples=150, deadline=None)
@given(SCHEMAS, SCHEMAS, st.integers(0, 9))
def test_whatever_comes_out_validates(schema: Any, definition: Any, seed: int) -> None:
    whole = {**schema, "$defs": {"d": definition}} if isinstance(schema, dict) else schema
    try:
        value = value_for(whole, Streams(seed), "k")
    except SchemaError:
        return  # what has to be served is in the next law
    assert is_valid(whole, value), value


def served(part: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas that have values by construction: nothing in them contradicts anything else."""
    properties = st.dictionaries(NAMES, part, max_size=4)
    objects = st.builds(
        lambda known, closed, num: {
            "type": "object",
            "properties": known,
            "required": sorted(known)[:num],
            "additionalProperties": closed,
        },
        properties,
        st.just(False) | part,
        SMALL,
    )
    split = st.builds(
        lambda one, two: {
            "allOf": [{"properties": one}, {"type": "object", "required": sorted(one), "properties": two}]
        },
        st.dictionaries(st.sampled_from(["a", "b"]), part, max_size=2),
        st.dictionaries(st.sampled_from(["c", "d"]), part, max_size=2),
    )
    arrays = st.builds(
        lambda item, low, more: {"items": item, "minItems": low, "maxItems": low + more}, part, SMALL, SMALL
    )
    either = st.builds(lambda parts: {"anyOf": parts}, st.lists(part, min_size=1, max_size=3))
    tagged = st.builds(
        lambda parts: {
            "oneOf": [closed({"kind": {"const": number}, "of": each}) for number, each in enumerate(parts)],
        },
        st.lists(part, min_size=1, max_size=4),
    )
    held = st.builds(lambda item: {"type": "array", "contains": item, "minItems": 2}, part)
    return st.one_of(objects, split, arrays.map(lambda array: {"type": "array", **array}), either, tagged, held)


SERVED = st.recursive(
    st.one_of(
        st.sampled_from([{"type": kind} for kind in TYPES]),
        st.builds(lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more}, SMALL, SMALL),
        st.builds(lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more}, SMALL, SMALL),
        st.sampled_from([{"type": "string", "format": name} for name in FORMATS]),
        st.sampled_from([{"type": "string", "pattern": pattern} for pattern in ("^[a-z]{2,5}$", r"^\d+-\w$", "b+$")]),
        st.builds(lambda several: {"enum": several}, st.lists(JSON, min_size=1, max_size=4)),
        st.just({"type": "object", "properties": {"again": {"$ref": "#"}}}),
        st.just({"type": "array", "items": {"$ref": "#"}}),
        st.just(
            {"anyOf": [{"type": "object", "properties": {"up": {"$ref": "#"}}, "required": ["up"]}, {"type": "null"}]}
        ),
    ),
    served,
    max_leaves=10,
)


@settings(max_examples=150, deadline=None)
@given(SERVED, st.integers(0, 9))
def test_schemas_without_contradictions_are_served(schema: Any, seed: int) -> None:
    check_schema(schema)
    assert is_valid(schema, value_for(schema, Streams(seed), "k"))


@settings(deadline=None)
@given(
    JSON | st.dictionaries(st.sampled_from(["type", "items", "properties", "$ref", "enum", "minLength", "allOf"]), JSON)
)
def test_anything_at_all_is_served_or_refused(schema: Any) -> None:
    try:
        value = value_for(schema, STREAMS, "k")
    except SchemaError:
        return
    assert is_valid(schema, value)


# ---------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("schema", "path", "says"),
    [
        (None, "", "NoneType is not a JSON Schema"),
        ([], "", "list is not a JSON Schema"),
        ({"type": "strin"}, "type", "strin"),
        ({"properties": {"age": {"minimum": "x"}}}, "properties.age.minimum", '"x" is not of type "number"'),
        ({"properties": {"a": {"enum": 3}}}, "properties.a.enum", "3 is not of type"),
        ({"properties": {"a": {"pattern": "["}}}, "properties.a.pattern", "regex"),
        ({"foo": {"type": 7}, "$ref": "#/foo"}, "foo.type", "7"),
        ({"$ref": "#/$defs/none"}, "$ref", "does not point at a schema"),
        ({"items": {"$ref": "https://example.com/s.json"}}, "items.$ref", "https://example.com/s.json"),
        ({"items": {"$ref": "other.json#/a"}}, "items.$ref", "other.json"),
        ({"properties": {"a": {"$id": "https://example.com/x"}}}, "properties.a.$id", "not served"),
        ({"$dynamicRef": "#x"}, "$dynamicRef", "not served"),
        ({"$ref": "#"}, "", "refers to itself"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "$defs.a", "itself"),
        (False, "", "admits no value"),
        (closed({"a": {"type": "integer", "minimum": 5, "maximum": 4}}), "properties.a", "admits no value"),
        (closed({"a": {"allOf": [{"enum": []}]}}), "properties.a.allOf.0", "admits no value"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "", "admits no value"),
        (closed({"a": {"$ref": "#"}}), "", "recursion without an end"),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "", "recursion without an end"),
        ({"items": {"minLength": 10**9}}, "items.minLength", "1000000000 characters; at most 10000"),
        ({"minItems": 10**9}, "minItems", "1000000000 items; at most 1000"),
        ({"minimum": 2**70}, "", "64 bits"),
    ],
)
def test_what_is_refused_before_anything_is_drawn(schema: Any, path: str, says: str) -> None:
    with pytest.raises(SchemaError) as refusal:
        check_schema(schema)
    assert refusal.value.path == path
    assert says in str(refusal.value)
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, ""),
        (closed({"a": {"oneOf": [{"type": "string"}, {"type": "string"}]}}), "properties.a"),
        (closed({"a": {"type": "string", "pattern": "^a$", "minLength": 5}}), "properties.a"),
        ({"type": "integer", "minimum": 1e300}, ""),
    ],
)
def test_what_turns_out_to_have_no_value(schema: Any, path: str) -> None:
    with pytest.raises(SchemaError, match="no value found") as refusal:
        value_for(schema, STREAMS, "k")
    assert refusal.value.path == path


# ----------------------------------------------------------------------------------------------------- hostile
_T = TypeVar("_T")
MAX_CALLS = 2_000_000  # a call in Python is about 0.1 µs


class TooManyCallsError(Exception):
    pass


def counted(work: Callable[[], _T]) -> _T:
    """The result of the work; fails when it takes more calls than a hostile schema may cost."""
    num_calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal num_calls
        num_calls += event in ("call", "c_call")
        if num_calls > MAX_CALLS:
            raise TooManyCallsError

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        return work()
    finally:
        sys.setprofile(before)


def levels(num: int, wrap: Callable[[Any], Any]) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(num):
        schema = wrap(schema)
    return schema


def chain(num: int, link: Callable[[Any], Any], end: Any = True) -> dict[str, Any]:
    """Definitions that each refer to the next."""
    definitions = {f"d{number}": link({"$ref": f"#/$defs/d{number + 1}"}) for number in range(num)}
    return {"$defs": {**definitions, f"d{num}": end}, "$ref": "#/$defs/d0"}


def ten_of(part: Any) -> dict[str, Any]:
    return closed({f"p{number}": part for number in range(10)})


def one_below_the_other(part: Any) -> dict[str, Any]:
    with_n = {"properties": {"x": part}, "required": ["x", "n"]}
    return {
        "type": "object",
        "anyOf": [with_n, {"properties": {"x": part}, "required": ["x"], "not": {"required": ["n"]}}],
    }


REFUSED: dict[str, Any] = {
    "10,000 levels": levels(10_000, lambda part: {"properties": {"a": part}}),
    "100,000 properties": {"properties": {f"p{number}": {"type": "string"} for number in range(100_000)}},
    "6,000 subschemas": {"properties": {f"p{number}": {} for number in range(6_000)}},
    "regex of regexes": {"pattern": "((a{1,1000}){1,1000}){1,1000}"},
    "5,000 brackets": {"pattern": "(" * 5_000 + ")" * 5_000},
    "many patterns": {"patternProperties": {f"^(a*)*{number}$": {} for number in range(1_000)}, "minProperties": 900},
    "few names, many properties": {"type": "object", "patternProperties": {"^a?$": {}}, "minProperties": 900}
    | {"additionalProperties": False},
    "impossible names": {"type": "object", "minProperties": 900, "propertyNames": {"enum": ["a", "b"]}},
    "a million items": {"type": "array", "minItems": 1_000, "items": {"type": "array", "minItems": 1_000}},
    "nine million characters": {"type": "array", "minItems": 1_000, "items": {"type": "string", "minLength": 9_000}},
    "a large constant a thousand times": {"type": "array", "minItems": 1_000, "items": {"const": "x" * 200_000}},
    "a long name a thousand times": {
        "type": "array",
        "minItems": 1_000,
        "items": closed({"n" * 100_000: {"type": "null"}}),
    },
    "ten to the forty": chain(40, ten_of),
    "ten to the ten": chain(10, ten_of),
    "branches of branches": chain(60, lambda part: {"anyOf": [part, part]}, {"type": "string", "pattern": "^zzz"}),
    "oneOf of oneOf": chain(24, lambda part: {"oneOf": [part, part]}, {"type": "string"}),
    "branches that double downwards": chain(28, one_below_the_other, {"type": "string"}),
    "4,000 references": chain(4_000, lambda part: part),
    "a long way down": levels(40, lambda part: closed({"a": part})),
    "negations of negations": levels(60, lambda part: {"not": {"not": part}}),
    "4,000 branches for 1,000 items": {
        "type": "array",
        "minItems": 1_000,
        "items": {"anyOf": [{"const": number} for number in range(4_000)]},
    },
    "2,000 branches that are one": {"oneOf": [{"type": "string"}] * 2_000},
}
SERVED_ALL_THE_SAME: dict[str, Any] = {
    "4,900 properties": {"type": "object", "properties": {f"p{number}": {} for number in range(4_900)}},
    "catastrophic": {"type": "string", "pattern": "^(a+)+$"},
    "catastrophic and long": {"type": "string", "pattern": "^(a|aa)+$", "minLength": 5_000},
    "catastrophic negation": {"type": "string", "pattern": "(.*)*=", "not": {"pattern": "(a*)*b"}},
    "empty repetition": {"type": "string", "pattern": "(|||){1000}(|||){1000}"},
    "wide recursion": {"type": "object", "properties": {f"p{number}": {"$ref": "#"} for number in range(300)}},
    "dense recursion": {
        "$ref": "#/$defs/d0",
        "$defs": {
            f"d{one}": {"type": "object", "properties": {f"p{two}": {"$ref": f"#/$defs/d{two}"} for two in range(60)}}
            for one in range(60)
        },
    },
    "wide chain": chain(
        30, lambda part: {"type": "object", "properties": {f"p{number}": part for number in range(10)}}
    ),
    "2,400 levels of references": chain(2_400, lambda part: {"properties": {"a": part}}),
    "2,000 branches": {
        "oneOf": [{"type": "object", "properties": {"k": {"const": number}}} for number in range(2_000)]
    },
    "a long description": {"type": "string", "description": "d" * 250_000},
}


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_schemas_are_refused_soon(name: str) -> None:
    with pytest.raises(SchemaError):
        counted(lambda: value_for(REFUSED[name], STREAMS, "k"))


@pytest.mark.parametrize("name", SERVED_ALL_THE_SAME)
def test_large_schemas_are_served_soon_and_small(name: str) -> None:
    value = counted(lambda: value_for(SERVED_ALL_THE_SAME[name], STREAMS, "k"))
    assert len(orjson.dumps(value)) < 1_000_000


def test_the_count_of_calls_would_see_a_runaway() -> None:
    with pytest.raises(TooManyCallsError):
        counted(lambda: [len("") for _ in range(MAX_CALLS + 1)])
