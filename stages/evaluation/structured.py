"""Answers that are read by a parser: JSON, JSON that fits a schema, licence expressions."""

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from license_expression import Licensing

ABSENT = "licence_expression needs the package license-expression; run: pip install 'journeyman[legal]'"
FENCE = re.compile(r"\A```\w*[ \t]*\r?\n(.*?)\s*```\Z", re.DOTALL)


def no_number(name: str) -> None:
    """NaN and Infinity are no JSON."""
    raise ValueError(name)


DECODER = json.JSONDecoder(parse_constant=no_number)


def first_json(text: str, opening: str = "{[") -> Any:
    """The first JSON value in a text that begins with one of these brackets; None if there is none."""
    for match in re.finditer(f"[{re.escape(opening)}]", text):
        try:
            return DECODER.raw_decode(text, match.start())[0]
        except (ValueError, RecursionError):
            continue
    return None


def whole_json(text: str) -> Any:
    """The whole text as JSON, also inside a code fence. ValueError when it is none."""
    fenced = FENCE.match(text.strip())
    try:
        return json.loads(fenced[1] if fenced else text, parse_constant=no_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def fits_schema(text: str, schema: Any) -> bool:
    """Whether the first JSON object or array of a text, or else all of it, fits the JSON Schema."""
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry

    value = first_json(text)
    if value is None:
        try:
            value = whole_json(text)
        except ValueError:
            return False
    # A registry of its own: the default one would fetch what a `$ref` names from the network.
    return validator_for(schema, Draft202012Validator)(schema, registry=Registry()).is_valid(value)


def schema_problem(schema: Any) -> str:
    """What is wrong with a JSON Schema, or nothing."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for

    if not isinstance(schema, dict):
        return f"`schema` is a JSON Schema, an object, not {schema!r}"
    try:
        validator_for(schema, Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        place = "".join(f".{part}" for part in error.absolute_path)
        return f"`schema{place}`: {error.message}"
    lost = [ref for ref in references(schema) if not resolves(schema, ref)]
    return f"`schema`: $ref {lost[0]!r} leads nowhere within the schema; nothing is fetched" if lost else ""


def references(part: Any) -> list[str]:
    """Every `$ref` and `$dynamicRef` in a schema."""
    if isinstance(part, list):
        return [ref for item in part for ref in references(item)]
    if not isinstance(part, dict):
        return []
    own = [part[name] for name in ("$ref", "$dynamicRef") if isinstance(part.get(name), str)]
    return own + [ref for item in part.values() for ref in references(item)]


def resolves(schema: dict[str, Any], ref: str) -> bool:
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resource = DRAFT202012.create_resource(schema)
    try:
        Registry().with_resource(resource.id() or "", resource).resolver(resource.id() or "").lookup(ref)
    except Unresolvable:
        return False
    return True


@lru_cache
def licensing() -> "Licensing":
    """The SPDX licences. ImportError without the package."""
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


def meaning(expression: str) -> Any:
    """An SPDX expression in its one shortest form as a choice of sets of licences. ValueError when it is none.

    Licence expressions know no negation, so two of them mean the same exactly if these forms are equal.
    """
    from license_expression import ExpressionError

    try:
        parsed = licensing().parse(expression, validate=True)
    except ExpressionError as error:
        raise ValueError(str(error)) from error
    except (IndexError, AssertionError, RecursionError) as error:  # what the parser lets out for "()" and its like
        raise ValueError("not well formed") from error
    if parsed is None:
        raise ValueError("empty")
    return licensing().dnf(parsed).simplify()


def same_licences(text: str, expression: str) -> bool:
    """Whether a text, without quotes, mark-up, a label `SPDX-License-Identifier:` and a final stop, means the same."""
    fenced = FENCE.match(text.strip())
    text = (fenced[1] if fenced else text).strip("\"'*` .\n\t")
    bare = re.sub(r"^SPDX-License-Identifier:", "", text, flags=re.IGNORECASE)
    try:
        return meaning(bare) == meaning(expression)
    except ValueError:
        return False


def licence_problem(expression: Any) -> str:
    """What is wrong with a licence expression, or nothing."""
    try:
        meaning(str(expression))
    except ImportError:
        return ABSENT
    except ValueError as error:
        return f"`answer`: {expression!r} is no SPDX expression: {error}"
    return ""
