"""Rewrites keep what must be kept, for any text; what does not is rejected and counted."""

import random

import pytest

from stages.data.legal.talk import authored
from stages.evaluation.protected import protected
from stages.evaluation.rewrites import BRITISH, RULES, SYNONYMS, Rule, problem, rewrites, table_rule, terms_of

PROMPTS = [row["prompt"] for row in authored("general_heldout_checks")]
PIECES = [
    "the MIT License", "GPL-2.0-only", "not", "don't", "never", "three", "7", "1,000", "at most", "`if (x) return;`",
    '"keep this notice"', "colour", "license", "big", "begin", "If", ",", "?", "What is the", "Please", "show", "must",
    "may", "source", "Thank you!", "I'm", "it is", "no", "all", "some", "program", "write", "fast", "large",
]  # fmt: skip


def random_texts(count):
    rng = random.Random(0)
    return [" ".join(rng.choices(PIECES, k=rng.randint(2, 12))) for _ in range(count)]


@pytest.mark.parametrize("texts", [PROMPTS, random_texts(800)], ids=["authored", "random"])
def test_every_kept_rewrite_keeps_the_protected_terms_and_can_be_undone(texts):
    kept = 0
    rules = {rule.name: rule for rule in RULES}
    for text in texts:
        for name, new in rewrites(text, 9).kept.items():
            kept += 1
            assert new != text and protected(new) == protected(text) and rules[name].undo(new) == text
    assert kept > len(texts)


def test_rewrites_of_one_text_all_differ():
    for text in PROMPTS:
        found = list(rewrites(text, 9).kept.values())
        assert len({new.casefold() for new in found} | {text.casefold()}) == len(found) + 1


@pytest.mark.parametrize(
    ("rule", "text", "new"),
    [
        ("synonyms", "Choose a big colour.", "Pick a large colour."),
        ("contracted", "Do not use commas.", "Don't use commas."),
        ("expanded", "It's short, isn't it?", "It is short, is not it?"),
        ("american", "Name the colour at the centre.", "Name the color at the center."),
        ("british", "Name a gray animal.", "Name a grey animal."),
        ("imperative", "What is the capital of Peru?", "State the capital of Peru."),
        ("condition last", "If I ship it, must I share the source?", "Must I share the source if I ship it?"),
        ("condition first", "Must I share the source if I ship it?", "If I ship it, must I share the source?"),
        ("thanks", "Name a bird.", "Name a bird. Thank you!"),
    ],
)
def test_each_rule(rule, text, new):
    assert next(r for r in RULES if r.name == rule).make(text) == new


def lying(name, make):
    return Rule(name, make, lambda text: TEXT)


TEXT = "May I sell 3 copies under GPL-2.0-only without the source, yes or no?"


@pytest.mark.parametrize(
    "made",
    [
        TEXT.replace("3", "4"), TEXT.replace("GPL-2.0-only", "GPL-3.0-only"), TEXT.replace("without", "with"),
        TEXT.replace("May", "Must"), TEXT.replace("copies", "copies at most"), TEXT.replace("3", "3 or 3"),
        "Not that it matters: " + TEXT,
    ],
)  # fmt: skip
def test_a_rewrite_that_changes_a_name_a_number_a_negation_or_a_duty_is_rejected(made):
    assert problem(TEXT, made, lying("liar", lambda text: made)) == "protected term changed"


def test_other_reasons_to_reject():
    same, gone = TEXT.upper(), "Sell copies 3 GPL-2.0-only may without no now today here there"
    assert problem(TEXT, same, lying("", str.upper)) == "identical"
    assert problem(TEXT, gone, lying("", lambda t: gone)) == "too different"
    long = TEXT + " word" * 60
    assert problem(TEXT, long, lying("", lambda t: long)) == "too long"
    assert problem(TEXT, TEXT + "x", Rule("", lambda t: t, lambda t: t)) == "not reversible"


def test_a_word_of_the_other_side_makes_a_synonym_irreversible_and_that_is_counted():
    found = rewrites("Pick a big or a large box.", 9)
    assert "synonyms" not in found.kept and found.rejected["not reversible"] == 1


def test_what_the_check_names_is_protected():
    row = {"check": {"type": "contains", "all": ["colour"]}}
    assert terms_of(row) == ("colour",)
    assert "american" in rewrites("Name a colour.", 9).kept
    found = rewrites("Name a colour.", 9, terms_of(row))
    assert "american" not in found.kept and found.rejected["protected term changed"] == 1
    assert terms_of({"choices": ["Yes", "No"]}) == ("Yes", "No")


@pytest.mark.parametrize("table", [SYNONYMS, BRITISH])
def test_tables_can_be_turned_round(table):
    assert len(set(table.values())) == len(table) and not set(table) & set(table.values())
    rule = table_rule("", table)
    assert all(rule.undo(rule.make(word)) == word for word in table)


def test_a_count_limits_what_is_kept():
    assert len(rewrites(PROMPTS[0], 2).kept) == 2
