"""Label Studio's JSON export: tasks with their data and annotations, compared in pairs, ranked or as chats."""

from collections.abc import Iterator
from typing import Any

from stages.data.formats import platforms, turns
from stages.data.formats.layout import Layout, Row, labels, text, unsaid
from stages.data.readers.errors import RowError

FAMILY = "labelstudio"
TYPES = {"pairwise": "votes", "ranker": "ranking", "chatmessage": "chat"}  # of a result -> form
SIDES = {"left": "a", "right": "b"}


def results(raw: Row) -> Iterator[tuple[Row, Row]]:
    """(annotation, result) of all annotations that were not cancelled. RowError when one is not as exported."""
    for annotation in raw["annotations"]:
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result", []), list):
            raise RowError("'annotations' must be a list of objects with a list 'result'")
        if annotation.get("was_cancelled"):
            continue
        for result in annotation.get("result", []):
            if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
                raise RowError("a 'result' of its annotations has no object 'value'")
            yield annotation, result


def _kind(raw: Row) -> str | None:
    """The first result's type that has a form."""
    try:
        return next((r["type"] for _, r in results(raw) if r.get("type") in TYPES), None)
    except (RowError, TypeError):
        return None


def is_task(raw: Row) -> bool:
    return isinstance(raw.get("annotations"), list) and isinstance(raw.get("data"), dict)


def _person(annotation: Row) -> str:
    by = annotation.get("completed_by", "")
    return str(by.get("email") or by.get("id", "")) if isinstance(by, dict) else str(by)


def _pairwise(raw: Row) -> Row:
    found = platforms.answers(raw["data"])
    if len(found) != 2:
        raise RowError(f"has {len(found)} answers in 'data' instead of two; call them answer1 and answer2")
    votes = [
        {"by": _person(annotation), "prefers": SIDES.get(str(result["value"].get("selected")), "tie")}
        for annotation, result in results(raw)
        if result.get("type") == "pairwise"
    ]
    asked = turns.prompt(platforms.asked(raw["data"], "data"), "prompt")
    one, other = found
    return {"prompt": asked, "a": text(found, one), "b": text(found, other), "votes": votes}


def _as_pairwise(content: Row) -> Row:
    if any("strength" in vote for vote in content["votes"]):
        raise unsaid("labelstudio_pairwise", "its votes have no levels")
    sides = {side: name for name, side in SIDES.items()}
    data = {"prompt": turns.written_prompt(content["prompt"]), "answer1": content["a"], "answer2": content["b"]}
    chosen = [{"selected": sides[v["prefers"]]} if v["prefers"] in sides else {} for v in content["votes"]]
    people = [vote["by"] for vote in content["votes"]]
    return _task(data, [(by, [("pairwise", value)]) for by, value in zip(people, chosen, strict=True)])


def _ranker(raw: Row) -> Row:
    texts = _items(raw["data"])
    orders = [_order(result["value"].get("ranker")) for _, result in results(raw) if result.get("type") == "ranker"]
    order = platforms.mean_order(orders)
    if len(order) < 2:
        raise RowError("ranks fewer than two answers")
    asked = turns.prompt(platforms.asked(raw["data"], "data"), "prompt")
    return {"prompt": asked, "answers": platforms.in_order(order, texts)}


def _order(value: Any) -> list[str]:
    """Names from the best to the worst: a list, alone or as the only one of an object."""
    if isinstance(value, dict):
        lists = [names for names in value.values() if names]
        value = lists[0] if len(lists) == 1 else None
    if not isinstance(value, list) or not value:
        raise RowError("has a ranking that is not one list of names, the best first")
    return [str(name) for name in value]


def _items(data: Row) -> dict[str, str]:
    """Name -> text of what was ranked."""
    for value in data.values():
        if isinstance(value, list) and value and all(isinstance(item, dict) and "id" in item for item in value):
            return {str(item["id"]): item.get("body") or item.get("text") or item.get("title") for item in value}
    raise RowError("has no list of items with 'id' and 'body' in 'data'")


def _as_ranker(content: Row) -> Row:
    items = [{"id": f"answer_{i}", "body": answer} for i, answer in enumerate(content["answers"], 1)]
    data = {"prompt": turns.written_prompt(content["prompt"]), "items": items}
    return _task(data, [("", [("ranker", {"ranker": [item["id"] for item in items]})])])


def _chat(raw: Row) -> Row:
    """The conversation of the first annotation that holds one, after what the task began with."""
    said = [(a, r["value"].get("chatmessage")) for a, r in results(raw) if r.get("type") == "chatmessage"]
    begun = next((v for v in raw["data"].values() if isinstance(v, list) and _is_turns(v)), [])
    return {"messages": turns.read([*begun, *(m for a, m in said if a is said[0][0])], "chatmessage")}


def _is_turns(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in value)


def _as_chat(content: Row) -> Row:
    if "tools" in content:
        raise unsaid("labelstudio_chat", "it has no place for tools")
    return _task({"prompt": ""}, [("", [("chatmessage", {"chatmessage": turn}) for turn in content["messages"]])])


def _task(data: Row, annotations: list[tuple[str, list[tuple[str, Row]]]]) -> Row:
    written = [
        {"completed_by": by, "result": [{"type": kind, "value": value} for kind, value in found]}
        for by, found in annotations
    ]
    return {"data": data, "annotations": written}


def _other(raw: Row) -> Row:
    """A task without an annotation that one can train on."""
    types = sorted({str(result.get("type")) for _, result in results(raw)})
    raise RowError(
        f"is annotated with {', '.join(types) or 'nothing'}; of Label Studio's annotations, {', '.join(TYPES)} are read"
    )


def _never(content: Row) -> Row:
    raise unsaid(FAMILY, "name what it holds: labelstudio_pairwise, labelstudio_ranker or labelstudio_chat")


def _labels(raw: Row) -> Row:
    found = labels(raw)
    return {**found, "id": str(found["id"])} if "id" in found else found


def _layout(name: str, kind: str | None, form: str, read: Any, write: Any) -> Layout:
    return Layout(
        name,
        FAMILY,
        form,
        lambda raw: is_task(raw) and _kind(raw) == kind,
        read,
        write,
        ("data", "annotations", *BESIDE),
        _labels,
    )


BESIDE = (  # of an exported task: about the platform, not about the row
    "predictions", "drafts", "meta", "created_at", "updated_at", "inner_id", "total_annotations", "project",
    "agreement", "cancelled_annotations", "total_predictions", "comment_count", "unresolved_comment_count",
    "last_comment_updated_at", "updated_by", "comment_authors", "file_upload", "state", "allow_skip",
)  # fmt: skip
LAYOUTS = (
    _layout("labelstudio_pairwise", "pairwise", "votes", _pairwise, _as_pairwise),
    _layout("labelstudio_ranker", "ranker", "ranking", _ranker, _as_ranker),
    _layout("labelstudio_chat", "chatmessage", "chat", _chat, _as_chat),
    *(_layout("labelstudio", None, form, _other, _never) for form in ("chat", "votes", "ranking")),
)
