"""Rules that decide whether a generated answer is right. A check is a JSON object: {"type": ..., its keys}.

Types that are not here come from other packages (`own_checks.py`).
"""

import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stages.evaluation import own_checks, structured

Check = dict[str, Any]
SIGN = r"(?:(?<!\w)[-+\u2212])?"  # between digits, as in 3-5 or 2024-03, it is none
THOUSANDS = ",'\u2019\u00a0\u2009\u202f"  # commas, apostrophes, spaces that do not break; a plain space parts numbers
NUMBER = re.compile(rf"{SIGN}(?:\d{{1,3}}(?:[{THOUSANDS}]\d{{3}})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|{SIGN}\.\d+")
VALUES = {  # key -> the type of its value
    "ignore_case": (bool, "true or false"), "wanted": (bool, "true or false"), "text": (str, "a text"),
    "pattern": (str, "a text"), "count": (int, "a whole number"), "min": (int, "a whole number"),
    "max": (int, "a whole number"),
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    passes: Callable[[Check, str], bool]
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


def _fold(check: Check, text: str, default: bool) -> str:
    """One spelling of accented letters; small letters where case does not count."""
    text = unicodedata.normalize("NFC", text)
    return text.casefold() if check.get("ignore_case", default) else text


def _exact(check: Check, text: str) -> bool:
    """The whole answer; runs of white space count once, quotes, mark-up and a final stop around it not at all."""
    bare = [" ".join(t.split()).strip("\"'*` .") for t in (text, str(check["answer"]))]
    return _fold(check, bare[0], False) == _fold(check, bare[1], False)


def _contains(check: Check, text: str) -> bool:
    return all(_fold(check, part, True) in _fold(check, text, True) for part in check["all"])


def _contains_any(check: Check, text: str) -> bool:
    return any(_fold(check, part, True) in _fold(check, text, True) for part in check["any"])


def _starts_with(check: Check, text: str) -> bool:
    return _fold(check, text.lstrip(), True).startswith(_fold(check, check["text"], True))


def _numeric(check: Check, text: str) -> bool:
    """The last number in the answer; thousands separators and a typographic minus are understood, a percent sign not.

    So 12 and 12 % are the same, and 0.12 is another number.
    """
    found = NUMBER.findall(text)
    if not found:
        return False
    plain = re.sub(f"[{THOUSANDS}]", "", found[-1]).replace("\u2212", "-")
    return math.isclose(float(plain), float(check["answer"]), rel_tol=1e-6, abs_tol=1e-9)


def _regex(check: Check, text: str) -> bool:
    return re.search(check["pattern"], text) is not None


def _json(check: Check, text: str) -> bool:
    """The first JSON object in the answer has these keys; as a mapping, with these values (compared as folded text)."""
    value = structured.first_json(text, "{")
    keys = check["keys"]
    wanted = keys if isinstance(keys, dict) else {}
    return value is not None and all(k in value for k in keys) and all(_same(value[k], wanted[k]) for k in wanted)


def _same(one: Any, other: Any) -> bool:
    return str(one).strip().casefold() == str(other).strip().casefold()


def _json_schema(check: Check, text: str) -> bool:
    """The first JSON object or array in the answer, or else the whole answer as JSON, fits the JSON Schema."""
    return structured.fits_schema(text, check["schema"])


def _licence_expression(check: Check, text: str) -> bool:
    """The answer is an SPDX expression that means the same as this one, however it is written."""
    return structured.same_licences(text, check["answer"])


def _words(check: Check, text: str) -> bool:
    return check.get("min", 0) <= len(text.split()) <= check.get("max", math.inf)


def _lines(check: Check, text: str) -> bool:
    """Lines that are not empty."""
    return sum(bool(line.strip()) for line in text.splitlines()) == check["count"]


def _refusal(check: Check, text: str) -> bool:
    """Whether the answer declines, or does not, as is wanted."""
    from stages.evaluation.refusal import is_refusal

    return is_refusal(text) == check["wanted"]


RULES = {
    "exact": Rule(_exact, ("answer",), ("ignore_case",)),
    "contains": Rule(_contains, ("all",), ("ignore_case",)),
    "contains_any": Rule(_contains_any, ("any",), ("ignore_case",)),
    "starts_with": Rule(_starts_with, ("text",), ("ignore_case",)),
    "numeric": Rule(_numeric, ("answer",)),
    "regex": Rule(_regex, ("pattern",)),
    "json": Rule(_json, ("keys",)),
    "json_schema": Rule(_json_schema, ("schema",)),
    "licence_expression": Rule(_licence_expression, ("answer",)),
    "words": Rule(_words, (), ("min", "max")),
    "lines": Rule(_lines, ("count",)),
    "refusal": Rule(_refusal, ("wanted",)),
}


def passes(check: Check, text: str) -> bool:
    """Whether the answer is right. StageFailed where a check of another package breaks."""
    rule = RULES.get(check["type"])
    return rule.passes(check, text) if rule else own_checks.passes(check, text)


def describe(check: Check) -> str:
    """The check for people."""
    return " ".join([check["type"], *(f"{key}={value}" for key, value in check.items() if key != "type")])


def problem(check: Check) -> str:
    """What is wrong with a check, or nothing. ConfigError for a package whose checks cannot be used."""
    kind = check.get("type") if isinstance(check, dict) else None
    if not isinstance(kind, str):
        return f"a check is an object with a `type`, a text, not {check!r}"
    own = own_checks.found()
    if kind in RULES and kind in own:
        return (
            f"type {kind!r} is Journeyman's own, and {own_checks.owner(own[kind])} brings one of that name; rename it"
        )
    if kind in own:
        return own_checks.problem(check)
    if kind not in RULES:
        return f"type {kind!r} is unknown; known: {', '.join([*RULES, *own])}"
    rule, keys = RULES[kind], set(check) - {"type"}
    if missing := [key for key in rule.required if key not in keys]:
        return f"{kind} needs {', '.join(missing)}"
    if surplus := sorted(keys - {*rule.required, *rule.optional}):
        return f"{kind} does not know {', '.join(surplus)}"
    return _bad_value(kind, check)


def _bad_value(kind: str, check: Check) -> str:
    for key in ("all", "any", "keys"):
        if key in check and not (
            check[key]
            and (isinstance(check[key], list) or (key == "keys" and isinstance(check[key], dict)))
            and all(isinstance(part, str) and part for part in check[key])
        ):
            return f"`{key}` is a list of texts" + (" or a mapping" if key == "keys" else "") + ", none of them empty"
    if kind == "words" and not {"min", "max"} & set(check):
        return "words needs min or max"
    if kind == "json_schema":
        return structured.schema_problem(check["schema"])
    if kind == "licence_expression":
        return structured.licence_problem(check["answer"])
    for key, (wanted, told) in VALUES.items():
        value = check.get(key)
        if key in check and (not isinstance(value, wanted) or (wanted is int and isinstance(value, bool))):
            return f"{kind}: `{key}` is {told}, not {value!r}"
    if check.get("min", 0) > check.get("max", math.inf):
        return f"{kind}: min={check['min']} is above max={check['max']}; no answer passes"
    if kind == "numeric" and not _is_number(check["answer"]):
        return f"numeric: `answer` is a number, such as 1000.5, not {check['answer']!r}"
    try:
        re.compile(check.get("pattern", ""))
    except re.error as error:
        return f"{kind}: `pattern`: {error}"
    return ""


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))
    except (ValueError, TypeError, OverflowError):
        return False
