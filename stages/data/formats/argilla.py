"""Argilla's export: records with fields and what people answered, as 2.x (nested or flat) and as 1.x write them."""

from typing import Any, NamedTuple

from stages.data.formats import platforms, turns
from stages.data.formats.labels import is_verdict, verdict
from stages.data.formats.layout import Layout, Row, labels, text, unsaid
from stages.data.formats.votes import verdict as vote_of
from stages.data.readers.errors import RowError

FAMILY = "argilla"
UNUSED = ("discarded", "draft", "pending")  # states of a response that is no answer


class Response(NamedTuple):
    """What one person answered to a question."""

    question: str
    by: str
    value: Any


def fields(raw: Row) -> Row:
    """The record's texts."""
    if isinstance(raw.get("fields"), dict):
        return raw["fields"]
    return {name: value for name, value in raw.items() if "." not in name and not isinstance(value, list | dict)}


def responses(raw: Row) -> list[Response]:
    """All submitted answers, in the order of the file."""
    if isinstance(raw.get("responses"), dict):
        given = [(name, each) for name, part in raw["responses"].items() for each in _objects(part)]
        return [_response(name, each) for name, each in given if each.get("status") not in UNUSED]
    if isinstance(raw.get("responses"), list):
        return [found for each in _objects(raw["responses"]) for found in _of_person(each)]
    flat = [found for name in raw if name.endswith(".responses") for found in _flat(raw, name)]
    return flat or [
        _response(name, each)
        for name, part in raw.items()
        if _is_question(part)
        for each in part
        if each.get("status") not in UNUSED
    ]


def _objects(part: Any) -> list[Row]:
    return [each for each in part if isinstance(each, dict)] if isinstance(part, list) else []


def _response(question: str, each: Row) -> Response:
    by = each.get("user_id")
    return Response(question, "" if by is None else str(by), each.get("value"))


def _of_person(each: Row) -> list[Response]:
    """1.x: {"user_id", "status", "values": {question: {"value": ...}}}."""
    if each.get("status") in UNUSED or not isinstance(each.get("values"), dict):
        return []
    return [
        _response(name, {"user_id": each.get("user_id"), **value})
        for name, value in each["values"].items()
        if isinstance(value, dict)
    ]


def _flat(raw: Row, name: str) -> list[Response]:
    """2.x, flat: "QUESTION.responses": [...], with ".users" and ".status" beside it."""
    values = raw[name] if isinstance(raw[name], list) else []
    users, states = (raw.get(f"{name}.{part}") or [None] * len(values) for part in ("users", "status"))
    if len(users) != len(values) or len(states) != len(values):
        raise RowError(f"'{name}' has {len(values)} values, but not as many users and states")
    question = name.removesuffix(".responses")
    together = zip(values, users, states, strict=True)
    return [_response(question, {"user_id": u, "value": v}) for v, u, s in together if s not in UNUSED]


def _is_question(part: Any) -> bool:
    return isinstance(part, list) and bool(part) and all(isinstance(x, dict) and "user_id" in x for x in part)


def is_record(raw: Row) -> bool:
    if isinstance(raw.get("fields"), dict) and "responses" in raw:
        return True
    return any(name.endswith(".responses") for name in raw) or any(map(_is_question, raw.values()))


def _kind(raw: Row) -> str | None:
    """What its answers are: votes, ranking, label or chat; None for what cannot be read."""
    if not is_record(raw):
        return None
    try:
        given = responses(raw)
    except (RowError, TypeError):
        return "chat"  # reading it says what is wrong
    if any(isinstance(each.value, list) for each in given):
        return "ranking"
    if len(platforms.answers(fields(raw))) == 2:
        return "votes"
    labelled = any(is_verdict(each.value) for each in given) and _only(raw) is not None
    return "label" if labelled else "chat"


def _only(raw: Row) -> str | None:
    return next((name for name in platforms.ONLY if isinstance(fields(raw).get(name), str)), None)


def _asked(raw: Row) -> list[turns.Turn]:
    return turns.prompt(platforms.asked(fields(raw), "fields"), "prompt")


def _votes(raw: Row) -> Row:
    found = platforms.answers(fields(raw))
    if len(found) != 2:
        raise RowError(f"has {len(found)} answers in its fields instead of two; call them response_1 and response_2")
    given = [each for each in responses(raw) if isinstance(each.value, str | int)]
    if not given:
        raise RowError("nobody compared its answers")
    one, other = found
    votes = [{"by": each.by, **_preferred(each, one, other)} for each in given]
    return {"prompt": _asked(raw), "a": text(found, one), "b": text(found, other), "votes": votes}


def _preferred(each: Response, one: str, other: str) -> Row:
    if each.value in (one, other):
        return {"prefers": "a" if each.value == one else "b"}
    return vote_of(each.value, each.question)


def _as_votes(content: Row) -> Row:
    words = {"a": "response_1", "b": "response_2", "tie": "tie"}
    if any("strength" in vote for vote in content["votes"]):
        raise unsaid("argilla_votes", "its votes have no levels")
    given = [{"user_id": vote["by"], "value": words[vote["prefers"]]} for vote in content["votes"]]
    return _record(content, {"response_1": content["a"], "response_2": content["b"]}, "preference", given)


def _ranking(raw: Row) -> Row:
    orders = [_order(each.value) for each in responses(raw) if isinstance(each.value, list)]
    if not orders:
        raise RowError("nobody ranked its answers")
    order = platforms.mean_order(orders)
    if len(order) < 2:
        raise RowError("ranks fewer than two answers")
    return {"prompt": _asked(raw), "answers": platforms.in_order(order, fields(raw))}


def _order(value: list[Any]) -> list[str]:
    """Names of fields, the best first: 2.x lists them, 1.x gives each its rank."""
    if all(isinstance(each, dict) and "rank" in each for each in value):
        value = [each.get("value") for each in sorted(value, key=lambda each: str(each["rank"]).zfill(9))]
    return [str(name) for name in value]


def _as_ranking(content: Row) -> Row:
    texts = {f"response_{i}": answer for i, answer in enumerate(content["answers"], 1)}
    return _record(content, texts, "ranking", [{"user_id": "", "value": list(texts)}])


def _label(raw: Row) -> Row:
    """The label that most people gave. RowError when as many say the other."""
    name = _only(raw)
    given = [verdict(each.value, each.question) for each in responses(raw) if is_verdict(each.value)]
    if name is None or not given or 2 * sum(given) == len(given):
        raise RowError("has no label that most people gave, or no answer that it is of")
    return {"prompt": _asked(raw), "completion": text(fields(raw), name), "label": 2 * sum(given) > len(given)}


def _as_label(content: Row) -> Row:
    given = [{"user_id": "", "value": "yes" if content["label"] else "no"}]
    return _record(content, {"response": content["completion"]}, "label", given)


def _chat(raw: Row) -> Row:
    """The prompt with the first answer that a person wrote."""
    written = next((each.value for each in responses(raw) if isinstance(each.value, str) and each.value.strip()), None)
    if written is None:
        raise RowError("nobody wrote, compared, ranked or labelled an answer to it")
    return {"messages": [*_asked(raw), {"role": "assistant", "content": written}]}


def _as_chat(content: Row) -> Row:
    *before, last = content["messages"]
    if last["role"] != "assistant" or not before or "tools" in content or last.keys() != {"role", "content"}:
        raise unsaid("argilla_chat", "it ends with an answer in plain text, and has no place for tools")
    return _record({"prompt": before}, {}, "response", [{"user_id": "", "value": last["content"]}])


def _record(content: Row, texts: Row, question: str, given: list[Row]) -> Row:
    asked = turns.written_prompt(content["prompt"])
    return {"fields": {"prompt": asked, **texts}, "responses": {question: given}}


def _labels(raw: Row) -> Row:
    found = labels(raw)
    return {**found, "id": str(found["id"])} if "id" in found else found


def _layout(kind: str, read: Any, write: Any) -> Layout:
    beside = ("metadata", "vectors", "suggestions", "status", "_server_id", "external_id")
    return Layout(
        f"argilla_{kind}",
        FAMILY,
        kind,
        lambda raw: _kind(raw) == kind,
        read,
        write,
        ("fields", "responses", *platforms.ASKED, *platforms.ONLY, *beside),
        _labels,
    )


LAYOUTS = (
    _layout("votes", _votes, _as_votes),
    _layout("ranking", _ranking, _as_ranking),
    _layout("label", _label, _as_label),
    _layout("chat", _chat, _as_chat),
)
