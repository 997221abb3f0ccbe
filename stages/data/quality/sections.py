"""The sections of the page as plain data, every number already printed, so that both templates say the same."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pipeline.report import sections as report
from pipeline.report import words
from stages.data.coverage.result import Table
from stages.data.findings import LEVELS, Finding
from stages.data.quality.plots import Histogram, histogram
from stages.data.quality.samples import DOCUMENT, MEASURED, SEQUENCE, Piece, Rendered, Sample

NAMED = 20  # tasks and tags that are drawn, the commonest
REJECTED = 10  # rows shown
CELL, DETAIL = 300, 800  # letters shown of a text in a table, of the numbers behind a finding
HEAD, TAIL = 2500, 1500  # letters shown of the ends of a long sequence

NUMBER = re.compile(r"[-+−]?\d[\d.,\s]*(e[-+]?\d+)?%?|[–-]")  # with its unit, or in its place a dash

Numbers = Mapping[str, int | None]


@dataclass(frozen=True)
class Sum:
    """Numbers of rows that must add up. `holds` is None where one of them was not recorded."""

    parts: Numbers
    name: str
    whole: int | None

    @property
    def total(self) -> int | None:
        numbers = list(self.parts.values())
        return None if None in numbers else sum(number for number in numbers if number is not None)

    @property
    def holds(self) -> bool | None:
        return None if self.total is None or self.whole is None else self.total == self.whole

    @property
    def text(self) -> str:
        sign = "≠" if self.holds is False else "="
        parts = " + ".join(f"{words.count(number)} {name}" for name, number in self.parts.items())
        return f"{parts} {sign} {words.count(self.whole)} {self.name}"

    @property
    def says(self) -> str:
        """What does not hold, as a sentence."""
        if self.total is None or self.whole is None:
            return f"Whether the rows add up cannot be told: not every number was recorded ({self.text})."
        apart, kind = abs(self.whole - self.total), "missing" if self.total < self.whole else "too many"
        return f"The counts do not add up: {self.text}. Rows {kind}: {words.count(apart)}."


def sums(counts: Mapping[str, Any]) -> list[Sum]:
    """What must hold: nothing that was read may get lost."""
    read, kept, repaired, rejected = (counts.get(f"rows_{name}") for name in ("read", "kept", "repaired", "rejected"))
    sides = {"to train on": counts.get("rows_train"), "held out": counts.get("rows_heldout")}
    sides |= {"left out": counts["rows_left_out"]} if counts.get("rows_left_out") else {}
    reasons = counts.get("reasons")
    because = None if reasons is None else sum(n for name, n in reasons.items() if name.startswith("rejected"))
    usable = None if kept is None or repaired is None else kept + repaired
    return [
        Sum({"kept as they are": kept, "repaired": repaired, "rejected": rejected}, "read", read),
        Sum(sides, "kept or repaired", usable),
        Sum({"rejected with a reason": because}, "rejected", rejected),
    ]


def headline(counts: Mapping[str, Any], findings: Sequence[Finding]) -> dict[str, Any]:
    """The page in one sentence and one colour; `alarm` where rows are lost."""
    number = {level: sum(finding.level == level for finding in findings) for level in LEVELS}
    alarms = [each.says for each in sums(counts) if not each.holds] if counts else ["No rows were counted."]
    alarms += ["There is no row to train on."] if counts.get("rows_train") == 0 else []
    tone = "bad" if alarms or number["error"] else "warn" if number["warning"] else "good"
    return {"tone": tone, "found": words.findings(number), "verdict": _verdict(number), "alarms": alarms}


def _verdict(number: Mapping[str, int]) -> str:
    if number["error"]:
        return "The data breaks its contract: nothing is trained on it before the errors below are mended."
    if number["warning"]:
        return "The data may be trained on; read the warnings below before."
    return "The data keeps its contract: no error and no warning."


def tiles(counts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, number, what is said below it)."""
    read = counts.get("rows_read")
    rows = {name: counts.get(f"rows_{name}") for name in ("kept", "repaired", "rejected")}
    shares = [
        (name.capitalize(), words.count(number), f"{words.share(number / read)} of rows" if read and number else "")
        for name, number in rows.items()
    ]
    held = f"and {words.count(counts.get('rows_heldout'))} held out"
    held += f", {words.count(counts['rows_left_out'])} left out" if counts.get("rows_left_out") else ""
    return [
        ("Rows read", words.count(read), f"{words.count(counts.get('words'))} words kept"),
        *shares,
        ("To train on", words.count(counts.get("rows_train")), held),
    ]


def shares(counts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How the rows divide by task and by tag, the commonest first; `width` in percent of the widest bar."""
    rows = (counts.get("rows_kept") or 0) + (counts.get("rows_repaired") or 0)
    named = {name: counts.get(key) or {} for name, key in (("Tasks", "tasks"), ("Tags", "tags"))}
    return [_share(name, numbers, rows) for name, numbers in named.items() if numbers]


def _share(title: str, numbers: Mapping[str, int], rows: int) -> dict[str, Any]:
    ranked = sorted(numbers.items(), key=lambda pair: -pair[1])
    most = ranked[0][1] or 1
    bars = [
        {
            "name": cut(name or "(none)", CELL),
            "count": words.count(number),
            "share": words.share(number / rows if rows else None),
            "width": 100 * number / most,
        }
        for name, number in ranked[:NAMED]
    ]
    rest = ranked[NAMED:]
    more = f"{len(rest)} more with {words.count(sum(n for _, n in rest))} rows together" if rest else ""
    return {"title": f"{title} ({len(ranked)})", "bars": bars, "more": more}


def levels(findings: Iterable[Finding]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Level -> its findings as the page prints them, the worst level first."""
    ranked = sorted(findings, key=lambda finding: LEVELS.index(finding.level))
    return [(level, [_finding(each) for each in group]) for level, group in groupby(ranked, lambda each: each.level)]


def _finding(found: Finding) -> dict[str, Any]:
    detail = {name: value for name, value in found.detail.items() if name != "accepted"}
    return {
        "level": found.level,
        "code": found.code,
        "share": f"{words.count(found.count)} of {words.count(found.of)}",
        "message": found.message,
        "remedy": found.remedy,
        "accepted": found.accepted or str(found.detail.get("accepted") or ""),
        "examples": [(seen.file, seen.line, cut(seen.text, CELL)) for seen in found.examples],
        "detail": [(words.title(name), _plain(value)) for name, value in detail.items()],
    }


def _plain(value: Any) -> str:
    nested = isinstance(value, dict | list | tuple)
    return cut(json.dumps(value, ensure_ascii=False, default=str) if nested else words.plain(value), DETAIL)


def plots(lengths: Mapping[str, Sequence[int]], max_length: int) -> list[Histogram]:
    limits = dict.fromkeys((DOCUMENT, SEQUENCE), max_length)
    return [histogram(name, numbers, limits.get(name, 0)) for name, numbers in lengths.items() if len(numbers)]


def measured(counts: Mapping[str, Any]) -> str:
    """Of which rows the lengths are, where not of all."""
    rows = counts.get("rows_train") or 0
    every = -(-rows // MEASURED)
    return f"Measured on every {every}th of {words.count(rows)} rows." if every > 1 else ""


def table(given: Table) -> dict[str, Any]:
    """Cells as (text, whether it stands on the right)."""
    rows = [[(cut(_cell(value), CELL), bool(NUMBER.fullmatch(_cell(value)))) for value in row] for row in given.rows]
    columns = [name[:1].upper() + name[1:] for name in given.columns]
    return {"title": given.title, "columns": columns, "rows": rows, "reading": given.reading}


def _cell(value: Any) -> str:
    return words.count(value) if isinstance(value, int) and not isinstance(value, bool) else words.plain(value)


def mixture(parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Asked against realised shares, and how often each source was gone through."""
    epochs = {name: words.plain(given.get("epochs", "–")) for name, given in parts.items()}
    return [{**report.mixture_part(name, given), "epochs": epochs[name]} for name, given in parts.items()]


def sample(given: Sample) -> dict[str, Any]:
    """`runs`: (whether trained, pieces), or (None, a gap in words)."""
    return {
        "file": given.file,
        "line": given.line,
        "note": given.note,
        "sequences": [_sequence(each) for each in given.rendered],
    }


def _sequence(given: Rendered) -> dict[str, Any]:
    runs = list(_runs(given.pieces))
    left = words.count(given.left_out)
    return {
        "name": given.name,
        "about": f"{words.count(given.tokens)} tokens, {words.count(given.trained)} trained on",
        "runs": runs,
        "cut": f"cut here at max_length; {left} tokens left out" if given.left_out else "",
        "marked": "".join(_marked(trained, pieces) for trained, pieces in runs),
    }


def _runs(pieces: Sequence[Piece]) -> Iterator[tuple[bool | None, list[Piece]]]:
    """Neighbours of one kind together; of a long sequence both ends, with a gap that is no text between them."""
    total = sum(len(piece.text) for piece in pieces)
    if total <= HEAD + TAIL:
        yield from _grouped(pieces)
        return
    yield from _grouped(clipped(pieces, 0, HEAD))
    yield None, [Piece(f"{words.count(total - HEAD - TAIL)} letters left out", False)]
    yield from _grouped(clipped(pieces, total - TAIL, total))


def _grouped(pieces: Iterable[Piece]) -> Iterator[tuple[bool, list[Piece]]]:
    return ((trained, list(run)) for trained, run in groupby(pieces, lambda piece: piece.trained))


def clipped(pieces: Iterable[Piece], low: int, high: int) -> Iterator[Piece]:
    """The letters low..high of the whole text, each still in its piece."""
    at = 0
    for piece in pieces:
        text = piece.text[max(0, low - at) : max(0, high - at)]
        at += len(piece.text)
        if text:
            yield piece._replace(text=text)


def _marked(trained: bool | None, pieces: Sequence[Piece]) -> str:
    """For a block of plain text, where the same brackets in the data must not be taken for marks."""
    text = "".join(piece.text for piece in pieces).replace("⟦", "⟨U+27E6⟩").replace("⟧", "⟨U+27E7⟩")
    return f"\n[… {text} …]\n" if trained is None else f"⟦{text}⟧" if trained else text


def rejected(rows: Sequence[Mapping[str, Any]], counts: Mapping[str, Any]) -> dict[str, Any]:
    """The first rejected rows, and how many there are beyond them."""
    shown = [
        {
            "file": row.get("file", "?"),
            "line": row.get("line", "?"),
            "code": str(row.get("code") or "–"),
            "reason": cut(str(row.get("reason") or "no reason was recorded"), CELL),
            "raw": _plain(row.get("row")),
        }
        for row in rows[:REJECTED]
    ]
    total = max(len(rows), counts.get("rows_rejected") or 0)
    return {"rows": shown, "more": words.count(total - len(shown)) if total > len(shown) else ""}


def reasons(counts: Mapping[str, Any]) -> list[tuple[str, str]]:
    return report.counted(counts.get("reasons") or {})


def cut(text: str, letters: int) -> str:
    """The beginning of a long text, with the number of letters that are left out."""
    return text if len(text) <= letters else f"{text[:letters]}… [{words.count(len(text) - letters)} letters left out]"
