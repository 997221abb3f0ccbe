"""Constraints against the IFEval code that lm-evaluation-harness ships, on random texts.

Texts are made of pieces where both mean to say the same; what differs on purpose has its own test at the end.
"""

import random
import sys
from types import ModuleType, SimpleNamespace

import pytest

from stages.evaluation.constraints import loose, read, strict

TEXTS = 400
PROSE = ["so", "So", "NATO", "cat", "I", "rain", "\n", "\n\n", ". ", ", ", "! ", "e", "walk", "WALK"]


@pytest.fixture(scope="module")
def ifeval():
    """The reference's `utils`, with its library of languages replaced: every text is English to it."""
    pytest.importorskip("lm_eval")
    import nltk

    with pytest.MonkeyPatch.context() as patch:
        languages, dicts = ModuleType("langdetect"), ModuleType("immutabledict")
        languages.detect, languages.LangDetectException = (lambda text: "en"), ValueError
        languages.lang_detect_exception = SimpleNamespace(LangDetectException=ValueError)
        dicts.immutabledict = dict
        patch.setitem(sys.modules, "langdetect", languages)
        patch.setitem(sys.modules, "immutabledict", dicts)
        patch.setattr(nltk.data, "find", lambda name: name)  # the splitter of sentences needs data that is not here
        from lm_eval.tasks.ifeval import utils

        yield utils


def asked(utils, name, kwargs, answer):
    """(strict, loose) as the reference sees them."""
    item = utils.InputExample(key=0, instruction_id_list=[name], prompt="Why?", kwargs=[kwargs])
    found = (utils.test_instruction_following_strict, utils.test_instruction_following_loose)
    return tuple(test(item, answer).follow_all_instructions for test in found)


def texts(pieces, seed):
    draw = random.Random(seed)
    return [
        "".join(piece if piece.endswith(("\n", " ")) else f"{piece} " for piece in draw.choices(pieces, k=size))
        for size in (draw.randint(1, 14) for _ in range(TEXTS))
    ]


def lines(pieces, seed):
    """Texts of whole lines."""
    draw = random.Random(seed)
    return ["\n".join(draw.choices(pieces, k=draw.randint(1, 5))) for _ in range(TEXTS)]


SAME = [  # name and arguments of the reference, ours, the texts
    ("length_constraints:number_words", {"num_words": 6, "relation": "at least"}, {"type": "words", "min": 6}, PROSE),
    ("length_constraints:number_words", {"num_words": 6, "relation": "less than"}, {"type": "words", "max": 5}, PROSE),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        {"type": "paragraphs", "min": 2, "max": 2, "divider": "***"},
        ["cat", "rain.", "so\n***\ncat", "***so"],
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"},
        {"type": "first_word_of_paragraph", "paragraph": 2, "paragraphs": 2, "word": "so"},
        ["so", "cat", "So, ", "cat\n\nso", "so\n\ncat"],
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        {"type": "placeholders", "min": 2},
        ["[name]", "[a b]", "cat", "[", "\n"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        {"type": "postscript", "marker": "P.S."},
        (lines, ["rain", "P.S. call", "p.s. call me", "p. s. so", "PS: no"]),
    ),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        {"type": "bullets", "min": 2, "max": 2},
        (lines, ["* cat", "- rain", "so", "  - so", "**so**", "a - b"]),
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        {"type": "highlights", "min": 2},
        ["*so*", "**cat**", "*a b*", "rain", "\n"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        {"type": "sections", "marker": "Section", "min": 2},
        (lines, ["Section 1", "rain", "Section 2", "Section"]),
    ),
    (
        "detectable_format:json_format",
        {},
        {"type": "json"},
        (lines, ['{"a": 1}', "[1, 2]", "rain", "3", "```json\n[1]\n```"]),
    ),
    ("detectable_format:title", {}, {"type": "title"}, ["<<so>>", "<< cat", ">>", "cat", "\n"]),
    (
        "detectable_format:constrained_response",
        {},
        {"type": "one_of", "options": ["My answer is yes.", "My answer is no.", "My answer is maybe."]},
        (lines, ["My answer is no.", "rain", "no."]),
    ),
    ("keywords:existence", {"keywords": ["cat", "rain"]}, {"type": "keywords", "all": ["cat", "rain"]}, PROSE),
    (
        "keywords:frequency",
        {"keyword": "so", "frequency": 2, "relation": "at least"},
        {"type": "keyword_frequency", "keyword": "so", "min": 2},
        PROSE,
    ),
    (
        "keywords:forbidden_words",
        {"forbidden_words": ["cat", "walk"]},
        {"type": "forbidden", "words": ["cat", "walk"]},
        [*PROSE, "cats", "walking"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "a", "let_frequency": 3, "let_relation": "at least"},
        {"type": "letter_frequency", "letter": "a", "min": 3},
        PROSE,
    ),
    ("combination:two_responses", {}, {"type": "two_responses"}, ["cat", "so", "******", "\n******\n", "rain"]),
    (
        "startend:end_checker",
        {"end_phrase": "So cat."},
        {"type": "ends_with", "text": "So cat."},
        ["so cat. ", "So cat. \n", "rain ", '"So cat."', "\n"],
    ),
    ("startend:quotation", {}, {"type": "quotation"}, ['"', '"so', 'cat"', "rain"]),
    ("change_case:english_capital", {}, {"type": "uppercase"}, ["NATO", "WALK", "I", "3", "so", "\n"]),
    ("change_case:english_lowercase", {}, {"type": "lowercase"}, ["so", "cat", "3", "NATO", "\n"]),
    ("punctuation:no_comma", {}, {"type": "no_commas"}, PROSE),
]


@pytest.mark.parametrize(("name", "kwargs", "ours", "pieces"), SAME, ids=[f"{case[0]} {case[2]}" for case in SAME])
def test_the_reference_says_the_same(ifeval, name, kwargs, ours, pieces):
    made, pieces = pieces if isinstance(pieces, tuple) else (texts, pieces)
    constraint, seen = read(ours), set()
    for answer in made(pieces, seed=len(name)):
        found = (strict(constraint, answer), loose(constraint, answer))
        assert found == asked(ifeval, name, kwargs, answer), answer
        seen.add(found)
    assert len(seen) >= 2  # otherwise these texts would show nothing


def test_repeating_is_the_same_but_for_an_answer_that_only_repeats(ifeval):
    ours = read({"type": "repeat_prompt", "text": "Why?"})
    for answer in texts(["Why?", "so", "\n", "why?"], seed=1):
        theirs, _ = asked(ifeval, "combination:repeat_prompt", {"prompt_to_repeat": "Why?"}, answer)
        assert strict(ours, answer) == (theirs and answer.strip().lower() != "why?")


@pytest.mark.parametrize(
    ("name", "kwargs", "ours", "answer", "here"),
    [
        (
            "length_constraints:number_words",
            {"num_words": 2, "relation": "at least"},
            {"type": "words", "min": 2},
            "don't",
            False,
        ),
        (
            "detectable_format:number_bullet_lists",
            {"num_bullets": 1},
            {"type": "bullets", "min": 1, "max": 1},
            "-5",
            False,
        ),
        (
            "detectable_format:number_highlighted_sections",
            {"num_highlights": 1},
            {"type": "highlights", "min": 1},
            "* a\n* b *",
            False,
        ),
        (
            "detectable_content:postscript",
            {"postscript_marker": "P.S."},
            {"type": "postscript"},
            "See P.S. below",
            False,
        ),
        (
            "detectable_content:number_placeholders",
            {"num_placeholders": 1},
            {"type": "placeholders", "min": 1},
            "[a](b)",
            False,
        ),
        (
            "detectable_format:multiple_sections",
            {"section_spliter": "Part", "num_sections": 1},
            {"type": "sections", "marker": "Part", "min": 1},
            "as in Part 1",
            False,
        ),
        ("keywords:existence", {"keywords": ["cat"]}, {"type": "keywords", "all": ["cat"]}, "concatenate", False),
        ("startend:quotation", {}, {"type": "quotation"}, "“Yes.”", True),
        ("detectable_format:json_format", {}, {"type": "json"}, '```json\n{"a": 1}', False),
        ("detectable_format:title", {}, {"type": "title"}, "<<a <b> c>>", False),
        (
            "length_constraints:number_paragraphs",
            {"num_paragraphs": 2},
            {"type": "paragraphs", "min": 2, "max": 2, "divider": "***"},
            "a\n***\n***\nb",
            True,
        ),
        ("punctuation:no_comma", {}, {"type": "no_commas"}, "好，坏", False),
    ],
)
def test_where_we_differ_on_purpose(ifeval, name, kwargs, ours, answer, here):
    assert strict(read(ours), answer) is here
    assert asked(ifeval, name, kwargs, answer)[0] is not here
