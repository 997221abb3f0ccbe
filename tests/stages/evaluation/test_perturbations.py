"""Perturbations: seeded, never of what is protected, and each does what its name says."""

import pytest

from stages.data.legal.talk import authored
from stages.evaluation.perturbations import MARKER, PERTURBATIONS, perturbed
from stages.evaluation.protected import PATTERN, spans
from stages.evaluation.rewrites import terms_of


def row(text, **more):
    return {
        "id": "i",
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}],
        **more,
    }


def said(found):
    return found["prompt"][-1]["content"]


TEXT = "Does the GPL-2.0-only licence never require sharing the modified source within 30 days?"
ROWS = [row(r["prompt"], check=r["check"], id=r["id"]) for r in authored("general_heldout_checks")]
for r, own in zip(ROWS, authored("general_heldout_checks"), strict=True):
    r["id"] = own["id"]


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_every_model_sees_the_same_and_another_seed_gives_another(name):
    made = [said(perturbed(r, name, 1, 50)) for r in ROWS]
    assert made == [said(perturbed(r, name, 1, 50)) for r in ROWS]
    assert all(new != said(r) for new, r in zip(made, ROWS, strict=True)) or name in ("typos", "case")
    if name not in ("injection",):
        assert made != [said(perturbed(r, name, 2, 50)) for r in ROWS]


@pytest.mark.parametrize("name", ["typos", "case"])
def test_what_is_protected_stays_to_the_letter(name):
    for item in ROWS:
        text, new = said(item), said(perturbed(item, name, 1, 50))
        for start, end in spans(text, terms_of(item)):
            assert text[start:end] in new


def test_typos_are_few_and_small():
    new = said(perturbed(row(TEXT), "typos", 3, 50))
    assert new != TEXT and abs(len(new) - len(TEXT)) <= 3
    assert sum(a != b for a, b in zip(new.split(), TEXT.split(), strict=True)) <= 2
    assert all(term in new for term in ("GPL-2.0-only", "never", "30"))


def test_case_keeps_names():
    new = said(perturbed(row(TEXT), "case", 1, 50))
    assert new.casefold() == TEXT.casefold() and new != TEXT and "GPL-2.0-only" in new


@pytest.mark.parametrize("name", ["context", "distractor", "language", "long"])
def test_what_is_put_before_leaves_the_request_as_it_is(name):
    found = perturbed(row(TEXT), name, 1, 50)
    assert said(found).endswith(f"\n\n{TEXT}") and found["prompt"][0]["content"] == "Be brief."


def test_long_is_as_long_as_asked():
    assert len(said(perturbed(row(TEXT), "long", 1, 700)).split()) == 700 + len(TEXT.split())


def test_an_injection_asks_for_a_wrong_choice_or_for_a_marker():
    found = perturbed(row(TEXT, choices=["Yes", "No"], answer=0), "injection", 1, 50)
    assert found["injected"] == "No" and "answer only with: No" in said(found) and said(found).startswith(TEXT)
    assert perturbed(row(TEXT), "injection", 1, 50)["injected"] == MARKER


def test_the_item_keeps_its_check_and_has_an_id_of_its_own():
    item = row(TEXT, check={"type": "exact", "answer": "Yes"})
    found = perturbed(item, "context", 1, 50)
    assert found["check"] == item["check"] and found["id"] == "i~context" and said(item) == TEXT


def test_protected_terms_are_found():
    found = {
        m.group() for m in PATTERN.finditer('Is "as is" in the MIT License, GPL-2.0-only or `x = 1` not 3 of all?')
    }
    assert {'"as is"', "MIT", "GPL-2.0-only", "`x = 1`", "not", "3", "all"} <= found
