"""Documents, prompts, rankings, and the forms that are only measured."""

from stages.data.formats import turns
from stages.data.formats.layout import Layout, Row, first, has, labels, text
from stages.data.readers.errors import RowError

TEXTS = ("text", "content", "document")
PROMPTS = ("prompt", "instruction", "question", "query")
RANKED = ("answers", "completions", "responses")


def _text(raw: Row) -> Row:
    return {"text": text(raw, first(raw, TEXTS))}


def as_is(content: Row) -> Row:
    return dict(content)


def _prompted(raw: Row) -> Row:
    name = first(raw, PROMPTS)
    return {"prompt": turns.prompt(raw[name], name)}


def _as_prompted(content: Row) -> Row:
    return {**content, "prompt": turns.written_prompt(content["prompt"])}


def _ranking(raw: Row) -> Row:
    """Answers from the best to the worst: in that order, or with `ranking` as each one's place, 1 for the best."""
    answers = raw[first(raw, RANKED)]
    if not isinstance(answers, list) or len(answers) < 2 or not all(isinstance(x, str) and x.strip() for x in answers):
        raise RowError("'answers' must be a list of at least two non-empty strings, the best first")
    places = raw.get("ranking", raw.get("ranks"))
    if places is not None:
        if not isinstance(places, list) or sorted(map(str, places)) != sorted(map(str, range(1, len(answers) + 1))):
            raise RowError(f"'ranking' must hold the places 1 to {len(answers)} of the answers, not {places!r}")
        answers = [answer for _, answer in sorted(zip(map(int, places), answers, strict=True))]
    return {"prompt": turns.prompt(raw["prompt"], "prompt"), "answers": answers}


def _is_ranking(raw: Row) -> bool:
    name = first(raw, RANKED)
    return "prompt" in raw and name is not None and (name == "answers" or "ranking" in raw or "ranks" in raw)


def _is_candidates(raw: Row) -> bool:
    """Several answers of models to a prompt that nobody judged."""
    return "prompt" in raw and any(isinstance(raw.get(name), list) for name in ("completions", "responses"))


def _cluster(raw: Row) -> Row:
    """The id names the prompt, which several rows may share."""
    found = labels(raw)
    return {"cluster": str(found.pop("id")), **found} if "id" in found else found


def measured(form: str, needs: tuple[str, ...], may: tuple[str, ...] = ()) -> Layout:
    """A form whose rows are written as they are."""
    names = (*needs, *may)

    def read(raw: Row) -> Row:
        return {"prompt": turns.prompt(raw["prompt"], "prompt"), **{name: raw[name] for name in names if name in raw}}

    return Layout(form, form, form, lambda raw: has(raw, "prompt", *needs), read, _as_prompted, ("prompt", *names))


MEASURED = (
    measured("choice", ("choices", "answer")),
    measured("generate", ("check",)),
    measured("refusal", ("harmful",), ("category", "seen_category")),
    measured("constraints", ("constraints",)),
    measured("classification", ("labels", "label")),
    measured("overlap", ("references",)),
)
LAYOUTS = (
    Layout("ranking", "ranking", "ranking", _is_ranking, _ranking, _as_prompted,
           ("prompt", *RANKED, "ranking", "ranks")),
    Layout("candidates", "candidates", "prompt", _is_candidates, _prompted, _as_prompted, PROMPTS, _cluster),
    Layout("text", "text", "text", lambda raw: bool(first(raw, TEXTS)), _text, as_is, TEXTS),
    Layout("prompt", "prompt", "prompt", lambda raw: bool(first(raw, PROMPTS)), _prompted, _as_prompted, PROMPTS),
)  # fmt: skip
