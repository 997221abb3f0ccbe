"""`generic_data_as_domain`: documents without a specialist vocabulary, or far from the sample of the domain; and
`unusable_sample`, where the sample says too little for that.

Continued training on such documents costs what the model could do and teaches no domain. `docs/misuse.md` says how a
document is judged, on what the thresholds were fitted and how often the verdict is right. Made for English prose.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from stages.data.contract.view import share
from stages.data.findings import Finding, Located, seen
from stages.data.misuse.config import GenericConfig
from stages.data.misuse.vocabulary import Text, pieces, prose, read, specialist

SHOWN = 12  # words of a vocabulary that a message names
KNOWN = 40  # specialist words that a sample must have before documents can be far from it
DENSE = 0.25  # weight of its words in a sample that counts at most: a list of terms is denser than any document
PIECE = 200  # words of a piece, where there are too few documents to see what recurs
REMEDY = (
    "Give the `domain` stage the field's own documents (a data set of format `text`); conversations belong to `sft`, "
    "general text to the rehearsal (`data.general`)."
)


@dataclass(frozen=True)
class Domain:
    """The sample of a domain: its specialist words, and their mean weight in a text of the sample."""

    terms: dict[str, float]
    weight: float


@dataclass(frozen=True)
class Judged:
    """A document: the density of specialist words in it, and the weight of the sample's words as against the sample."""

    located: Located
    density: float
    close: float | None

    def problem(self, config: GenericConfig) -> str:
        """general | far, or nothing."""
        if self.density < config.density:
            return "general"
        return "far" if self.close is not None and self.close < config.closeness else ""


def generic_data_as_domain(rows: Sequence[Located], domain: Domain | None, config: GenericConfig) -> Finding | None:
    """An error where more than `max_share` of the documents have no specialist vocabulary, or not that of `domain`.

    None where they are fewer, or too few in English prose to tell.
    """
    judged, terms = judge(rows, domain, config)
    kinds = [each.problem(config) for each in judged]
    counts = {kind: kinds.count(kind) for kind in ("general", "far")}
    if sum(counts.values()) <= config.max_share * len(judged):
        return None
    kind = max(counts, key=lambda name: counts[name])
    return Finding(
        "error",
        "generic_data_as_domain",
        sum(counts.values()),
        len(judged),
        _message(counts[kind], len(judged), kind, terms, domain),
        REMEDY,
        seen(
            (each.located, each.located.row["text"]) for each, found in zip(judged, kinds, strict=True) if found == kind
        ),
        {"kind": kind, **counts, **_numbers(judged, terms, domain)},
    )


def unusable_sample(sample: Sequence[tuple[Located, str]], config: GenericConfig) -> Finding:
    """What to say of rows with their texts that declare no domain."""
    prose = _texts(_spread([text for _, text in sample], config.most_rows), config)
    if prose:
        why = f"it has {len(specialist(prose))} words that tell its field from general English; {KNOWN} are needed"
    else:
        why = (
            f"it has too little English prose; {config.fewest_rows} different texts (or pieces of {PIECE} words of "
            f"long ones) with {config.fewest_words} words together are needed"
        )
    return Finding(
        "warning",
        "unusable_sample",
        len(sample),
        len(sample),
        f"The sample of the domain was not used: {why}. Documents of another field are not told.",
        "Give `data.domain_sample` more of the field's own prose, or take it out; for a field that is not in English, "
        "accept this finding: nothing is told of other languages.",
        seen(sample),
    )


def declared(sample: Sequence[str], config: GenericConfig) -> Domain | None:
    """What the sample speaks of; None where it is too small, not English prose or without a vocabulary of its own.

    The weight is measured on each half with the words of the other: a text always speaks of its own words.
    """
    texts = _texts(_spread(sample, config.most_rows), config)
    halves = texts[::2], texts[1::2]
    across = [text.weight(specialist(other)) for half, other in (halves, halves[::-1]) for text in half]
    weight, terms = median(across) if across else 0.0, specialist(texts)
    return Domain(terms, min(weight, DENSE)) if weight > 0 and len(terms) >= KNOWN else None


def judge(
    rows: Sequence[Located], domain: Domain | None, config: GenericConfig
) -> tuple[list[Judged], dict[str, float]]:
    """Every document in English prose, and the specialist words of all; nothing where they are too few to tell."""
    kept = _spread(rows, config.most_rows)
    texts = _texts([located.row["text"] for located in kept], config)
    if not texts:
        return [], {}
    found = specialist(texts)
    terms = found if len(found) >= config.vocabulary else {}
    whole = [(located, read(located.row["text"])) for located in kept]
    return [
        Judged(located, text.density(terms), text.weight(domain.terms) / domain.weight if domain else None)
        for located, text in whole
        if text.english and text.words
    ], terms


def _texts(texts: Sequence[str], config: GenericConfig) -> list[Text]:
    """The different ones in English prose, or pieces of them where they are too few; none if they tell too little."""
    different = list(dict.fromkeys(texts))  # what recurs because it is repeated tells nothing
    if len(different) < config.fewest_rows:
        different = [piece for text in different for piece in pieces(text, PIECE)]
    found = prose([read(text) for text in different])
    few = len(found) < config.fewest_rows or sum(len(text.words) for text in found) < config.fewest_words
    return [] if few else found


def _spread(rows: Sequence[Any], most: int) -> Sequence[Any]:
    """At most so many of them, evenly over the whole."""
    return rows[:: -(-len(rows) // most)] if len(rows) > most else rows


def _message(count: int, of: int, kind: str, terms: dict[str, float], domain: Domain | None) -> str:
    if kind == "general" or domain is None:
        return f"{share(count, of)} documents have no specialist vocabulary, only the words of general English."
    both = f"theirs is {_first(terms)}; the sample's is {_first(domain.terms)}"
    return f"{share(count, of)} documents have another vocabulary than the sample of the domain: {both}."


def _first(terms: dict[str, float]) -> str:
    return ", ".join(list(terms)[:SHOWN])


def _numbers(judged: Sequence[Judged], terms: dict[str, float], domain: Domain | None) -> dict[str, Any]:
    """Medians over the documents, and the words behind them."""
    found: dict[str, Any] = {"density": round(median(each.density for each in judged), 4), "words": list(terms)[:SHOWN]}
    close = [each.close for each in judged if each.close is not None]
    if domain is None or not close:
        return found
    return {**found, "closeness": round(median(close), 4), "sample_words": list(domain.terms)[:SHOWN]}
