"""JSON values that fit a client's JSON Schema (draft 2020-12): structured answers and the arguments of tool calls.

A value is drawn by (seed, key, place in the value), so the same request gets the same answer and a property does not
change when another one is added. Schemas that apply at one place together (`$ref`, `allOf`, the chosen branch of
`anyOf`, all that name a property) are kept side by side and asked one by one; they are never merged into one.
Whatever was drawn is checked with `jsonschema_rs` before it leaves, so a value that comes back does validate.
`nullable` (OpenAPI) is not part of JSON Schema: such a place never gets null, which both readings accept.

A schema comes from a client and may be hostile. Work is counted in steps (about 10 µs each), never in time, and
patterns are matched by an engine that does not backtrack without end. Each file imports only from those before it:

    errors -> nodes -> heights -> plan -> work        a checked schema, cached; what a value costs
    draws -> words -> texts, numbers, patterns        strings and numbers
    place -> containers -> maker                      the schemas of one place, objects and arrays, one value
"""

from __future__ import annotations

from mockllm.content.schema.errors import SchemaError
from mockllm.content.schema.maker import value_for
from mockllm.content.schema.plan import check_schema

__all__ = ["SchemaError", "check_schema", "value_for"]
