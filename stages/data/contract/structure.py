"""Rows that do not fit the stage: another form, wrong types, empty turns, turns out of order."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stages.data.contract.view import CALLED, FORMS, READS, Found, Mark, Scope, form_of, share

ROLES = ("system", "user", "assistant", "tool")
INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
ADVICE = {
    ("chat", "domain"): "give them to an sft stage, or write them as documents with one field 'text'",
    ("text", "sft"): "give them to a domain stage, or write them as a request with its reply",
    ("preference", "sft"): "give them to a dpo or reward stage; for sft keep the prompt with its chosen answer",
    ("chat", "dpo"): "each row needs a prompt with a chosen and a rejected answer",
    ("chat", "reward"): "each row needs a prompt with a chosen and a rejected answer",
    ("chat", "ppo"): "keep what comes before the last answer as 'prompt'",
    ("label", "reward"): "a reward model compares answers: give pairs, rankings or votes",
}


def problem(row: Any, stage: str) -> tuple[str, str] | None:
    """(code, what is wrong) of a row that the stage cannot read, or None."""
    if not isinstance(row, dict):
        return "unreadable_row", f"is a {type(row).__name__}, not an object"
    form = form_of(row)
    if form is None:
        expected = ", ".join(FORMS[READS[stage][0]])
        return "unreadable_row", f"has none of the fields that are needed: {expected} (it has: {', '.join(row)})"
    if form not in READS[stage]:
        return "wrong_form", form
    return _broken(row, form)


def _broken(row: Mapping[str, Any], form: str) -> tuple[str, str] | None:
    turns = row["messages"] if form == "chat" else row.get("prompt")
    if form != "text":
        found = _broken_turns(turns, "assistant" if form == "chat" else "user")
        if found:
            return found
    for name in FORMS[form]:
        if name not in ("messages", "prompt"):
            found = _broken_value(name, row[name])
            if found:
                return found
    return None


def _broken_value(name: str, value: Any) -> tuple[str, str] | None:
    if name == "label":
        return None if isinstance(value, bool) else ("unreadable_row", f"'label' is {value!r}, not true or false")
    if name in ("votes", "answers"):
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            return "unreadable_row", f"'{name}' is {value!r}, not a list"
        texts = value if name == "answers" else []
    else:
        texts = [value]
    for text in texts:
        if not isinstance(text, str):
            return "unreadable_row", f"'{name}' holds a {type(text).__name__}, not a string"
        if blank(text):
            return "empty_turn", f"'{name}' is empty"
    return None


def _broken_turns(turns: Any, last: str) -> tuple[str, str] | None:
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        return "unreadable_row", f"its turns are {turns!r}, not a list of turns"
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, Mapping) or "role" not in turn:
            return "unreadable_row", f"turn {number} is not an object with 'role' and 'content'"
        text, calls = turn.get("content"), turn.get("tool_calls")
        if not (isinstance(text, str) or (text is None and calls)):
            return "unreadable_row", f"the content of turn {number} is a {type(text).__name__}, not a string"
        if not calls and blank(text):
            return "empty_turn", f"turn {number} ({turn['role']}) is empty"
    fault = out_of_order([turn["role"] for turn in turns], last)
    return ("role_order", fault) if fault else None


def blank(text: str) -> bool:
    """Nothing in it that a reader could see."""
    return not text.translate(INVISIBLE).strip()


def out_of_order(roles: Sequence[str], last: str) -> str | None:
    """What breaks the order of the turns: a system turn, then user and assistant in turns, tools after the assistant.

    `last`: who must speak last; before an answer that is still to come, a tool's result may stand in the user's place.
    """
    before = None
    for number, role in enumerate(roles, 1):
        if role not in ROLES:
            return f"turn {number} has the role {role!r}"
        if role not in FOLLOWS[before]:
            return f"turn {number} ({role}) follows {'nothing' if before is None else before}"
        before = role
    allowed = ("user", "tool") if last == "user" else ("assistant",)
    return None if before in allowed else f"the last turn is the {before}'s, not the {last}'s"


FOLLOWS = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}


def wrong_form(scope: Scope) -> Found | None:
    """Rows in the form of another stage."""
    forms = _problems(scope, "wrong_form")
    if not forms:
        return None
    form, _ = Counter(forms.values()).most_common(1)[0]
    wanted = " or ".join(CALLED[name] for name in READS[scope.stage])
    fits = [stage for stage, read in READS.items() if form in read]
    advice = ADVICE.get((form, scope.stage), f"give them to a stage of kind {' or '.join(fits)}")
    return Found(
        [Mark(i, f"has {', '.join(FORMS[name])}: one of {CALLED[name]}") for i, name in forms.items()],
        f"{share(len(forms), len(scope.rows))} rows are {CALLED[form]}, but {scope.stage} trains on {wanted}.",
        f"Name the right data set for this stage, or change the rows: {advice}.",
        detail={"forms": dict(Counter(forms.values()))},
    )


def no_rows(scope: Scope) -> Found | None:
    """A data set without a row to train on, as one is whose rows are all held out."""
    if scope.rows:
        return None
    remedy = "Lower the data set's `holdout` (or `split.share`), or look in its rejected.jsonl why nothing was kept."
    return Found([], "There is no row to train on.", remedy)


def unreadable_row(scope: Scope) -> Found | None:
    """Rows without the needed fields, or with values of a wrong type."""
    return _told(scope, "unreadable_row", "cannot be read", "Correct these rows at their source.")


def empty_turn(scope: Scope) -> Found | None:
    """Rows with a turn, an answer or a text in which nothing stands, or only white space."""
    return _told(scope, "empty_turn", "have an empty turn or text", "Fill these texts or take the rows out.")


def role_order(scope: Scope) -> Found | None:
    """Conversations whose turns do not alternate or end with the wrong one."""
    last = "assistant" if scope.stage == "sft" else "user"
    remedy = f"Order the turns as system, user, assistant, user ... with the {last}'s as the last."
    return _told(scope, "role_order", "have turns out of order", remedy)


def _told(scope: Scope, code: str, what: str, remedy: str) -> Found | None:
    found = _problems(scope, code)
    message = f"{share(len(found), len(scope.rows))} rows {what}; the first: {next(iter(found.values()), '')}."
    return Found([Mark(i, text) for i, text in found.items()], message, remedy) if found else None


def _problems(scope: Scope, code: str) -> dict[int, str]:
    return {i: found[1] for i, found in enumerate(scope.problems) if found and found[0] == code}
