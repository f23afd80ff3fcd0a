"""Reading a JSON body against a schema, with problems worded as Anthropic's API words them.

The API validates with pydantic: `messages.0.role: Input should be 'user' or 'assistant'`. Its paths name the member of a
union by its tag (`thinking.enabled.budget_tokens`), so the schema is followed along msgspec's path. Malformed JSON gets
the position as line, column and character.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect

from mockllm.wire.errors import ApiError, invalid

__all__ = ["broken", "read_body", "shortened", "unknown_tag"]

T = TypeVar("T")

_AT = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]")
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*)`", re.DOTALL)
_LENGTH = re.compile(r"Expected `(?P<type>\w+)` of length (?P<bound>[<>]=) (?P<limit>\d+)")
_RANGE = re.compile(r"Expected `\w+` (?P<bound>[<>]=) (?P<limit>\S+)")
_PATTERN = re.compile(r"Expected `str` matching regex '(?P<pattern>.*)'", re.DOTALL)
_BYTE = re.compile(r"(?P<reason>.*) \(byte (?P<byte>\d+)\)", re.DOTALL)
_LONE_SURROGATE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")
_NOT_JSON = "The request body is not valid JSON"


class _Place(NamedTuple):
    """Where a rule was broken: the path as the API writes it, what the schema wants there, and what is there.

    `choices` are the allowed values, in the order in which the schema names them.
    """

    path: list[str]
    wanted: inspect.Type
    value: object
    choices: tuple[object, ...] = ()


def read_body(body: bytes, decoder: msgspec.json.Decoder[T]) -> T | ApiError:
    """The body as the decoder's type, or the error to answer with. Never raises for a client's bytes."""
    try:
        body.decode()  # the decoder looks only into the fields it knows
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        return _broken_rule(str(error), body, decoder)
    except msgspec.DecodeError as error:
        return invalid(f"{_NOT_JSON}: {_not_json(body, str(error))}")
    except UnicodeDecodeError as error:
        return invalid(f"{_NOT_JSON}: str is not valid UTF-8: {_position(body, error.start)}")
    except RecursionError:
        return invalid(f"{_NOT_JSON}: Recursion limit reached: {_position(body, 0)}")


def broken(path: str, rule: str) -> ApiError:
    """A rule that the value at `path` breaks."""
    return invalid(f"{path}: {rule}", path)


def unknown_tag(tag: object, known: list[str]) -> str:
    """The rule that a tagged object of an unknown kind breaks."""
    expected = ", ".join(f"'{name}'" for name in sorted(known))
    return f"Input tag '{shortened(str(tag))}' found using 'type' does not match any of the expected tags: {expected}"


def shortened(text: str, num_chars: int = 100) -> str:
    """A client's text for an error: a large body is not sent back."""
    return text if len(text) <= num_chars else text[:num_chars] + "…"


def _broken_rule(text: str, body: bytes, decoder: msgspec.json.Decoder[Any]) -> ApiError:
    located = _AT.search(text)
    rule = text[: located.start()] if located else text
    steps = [step["name"] or int(step["index"]) for step in _STEP.finditer(located["path"] if located else "")]
    missing, unknown = _MISSING.fullmatch(rule), _UNKNOWN.fullmatch(rule)
    is_tag = bool(steps) and steps[-1] == "type" and (rule.startswith("Invalid value ") or rule == "Expected `str`")
    place = _locate(body, _schema(decoder), steps[:-1] if is_tag else steps, enter=bool(missing or unknown))
    if missing and missing["field"] == "type" and _tagged(place.wanted):
        words = "Unable to extract tag using discriminator 'type'"
    elif missing:
        place.path.append(missing["field"])
        words = "Field required"
    elif unknown:
        place.path.append(shortened(unknown["field"]))
        words = "Extra inputs are not permitted"
    elif is_tag:
        tag = place.value.get("type") if isinstance(place.value, dict) else None
        words = unknown_tag(tag, list(_tagged(place.wanted)))
    else:
        words = _rule(rule, place)
    return broken(".".join(place.path), words) if place.path else invalid(words)


@lru_cache(maxsize=16)
def _schema(decoder: msgspec.json.Decoder[Any]) -> inspect.Type:
    return inspect.type_info(decoder.type)


def _locate(body: bytes, schema: inspect.Type, steps: list[str | int], *, enter: bool) -> _Place:
    """Follow a path through schema and body; `enter`: the last object's own tag belongs to the path as well."""
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        value = None  # the decoder stopped before what is wrong further on
    path: list[str] = []
    choices: tuple[object, ...] = ()
    for step in steps:
        owner = _enter(schema, value, path)
        schema, choices = _child(owner, step), _choices(owner, step)
        path.append(str(step))
        value = _value_at(value, step)
    if enter:
        schema = _enter(schema, value, path)
    return _Place(path, schema, value, choices)


def _enter(schema: inspect.Type, value: object, path: list[str]) -> inspect.Type:
    """The member of a union that this value is meant to be."""
    tagged = _tagged(schema)
    if isinstance(value, dict) and isinstance(tag := value.get("type"), str) and tag in tagged:
        path.append(tag)
        return tagged[tag]
    if not isinstance(schema, inspect.UnionType):
        return schema
    if isinstance(value, list):
        return next((member for member in schema.types if isinstance(member, inspect.ListType)), schema)
    plain = [member for member in schema.types if isinstance(member, inspect.StructType | inspect.DictType)]
    return plain[0] if isinstance(value, dict) and len(plain) == 1 else schema


def _tagged(schema: inspect.Type) -> dict[str, inspect.Type]:
    """The members of a union of tagged objects, by tag; empty for anything else."""
    members = schema.types if isinstance(schema, inspect.UnionType) else ()
    found = {str(member.tag): member for member in members if isinstance(member, inspect.StructType) and member.tag}
    return {} if len(found) < 2 else dict(found)


def _child(schema: inspect.Type, step: str | int) -> inspect.Type:
    if isinstance(schema, inspect.StructType):
        return next((field.type for field in schema.fields if field.encode_name == step), inspect.AnyType())
    return schema.item_type if isinstance(schema, inspect.ListType) else inspect.AnyType()


def _choices(owner: inspect.Type, step: str | int) -> tuple[object, ...]:
    """The values of a literal as they are written in the class; msgspec sorts them."""
    hint = get_type_hints(owner.cls).get(str(step)) if isinstance(owner, inspect.StructType) else None
    literals = [member for member in (hint, *get_args(hint)) if get_origin(member) is Literal]
    return get_args(literals[0]) if literals else ()


def _value_at(value: Any, step: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    return value[step] if isinstance(value, list) and isinstance(step, int) and step < len(value) else None


def _rule(rule: str, place: _Place) -> str:
    """pydantic's words for what msgspec found."""
    if length := _LENGTH.fullmatch(rule):
        bound, limit = "at least" if length["bound"] == ">=" else "at most", length["limit"]
        ending = "" if limit == "1" else "s"
        if length["type"] == "str":
            return f"String should have {bound} {limit} character{ending}"
        num = len(place.value) if isinstance(place.value, list) else 0
        return f"List should have {bound} {limit} item{ending} after validation, not {num}"
    if limits := _RANGE.fullmatch(rule):
        bound = "greater" if limits["bound"] == ">=" else "less"
        return f"Input should be {bound} than or equal to {limits['limit'].removesuffix('.0')}"
    if pattern := _PATTERN.fullmatch(rule):
        return f"String should match pattern '{pattern['pattern']}'"
    return f"Input should be {_wanted(place)}"


def _wanted(place: _Place) -> str:
    if place.choices:
        return _one_of(place.choices)
    members = place.wanted.types if isinstance(place.wanted, inspect.UnionType) else (place.wanted,)
    return next((words for kind, words in _WORDS if any(isinstance(member, kind) for member in members)), "valid")


def _one_of(values: tuple[object, ...]) -> str:
    quoted = [f"'{value}'" for value in values]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


# Where several are allowed the API speaks of the first of these: `system: Input should be a valid list`.
_WORDS: tuple[tuple[type[inspect.Type], str], ...] = (
    (inspect.ListType, "a valid list"),
    (inspect.StructType, "a valid dictionary"),
    (inspect.DictType, "a valid dictionary"),
    (inspect.StrType, "a valid string"),
    (inspect.BoolType, "a valid boolean"),
    (inspect.IntType, "a valid integer"),
    (inspect.FloatType, "a valid number"),
)


def _not_json(body: bytes, reason: str) -> str:
    if surrogate := _LONE_SURROGATE.search(body):
        return f"no low surrogate in string: {_position(body, surrogate.start())}"
    if located := _BYTE.fullmatch(reason):
        return f"{located['reason'].removeprefix('JSON is malformed: ')}: {_position(body, int(located['byte']))}"
    return f"unexpected end of data: {_position(body, len(body))}"


def _position(body: bytes, byte: int) -> str:
    before = body[:byte].decode(errors="replace")
    column = len(before) - before.rfind("\n")
    return f"line {before.count(chr(10)) + 1} column {column} (char {len(before)})"
