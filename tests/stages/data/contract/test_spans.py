from itertools import pairwise

from contract_scopes import chat, pair, scope_of
from hypothesis import given
from hypothesis import strategies as st

from stages.data.contract.spans import Span, blanked, disjoint, hidden, masked, requests, shown, strings

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=8).map(
    lambda pairs: [Span("x", start, start + length) for start, length in pairs]
)


@given(SPANS)
def test_disjoint_spans_are_in_order_and_the_first_wins(spans):
    kept = disjoint(spans)
    assert all(one.end <= two.start for one, two in pairwise(kept))
    assert (not spans or spans[0] in kept) and set(kept) <= set(spans)


def test_masked_hidden_and_shown():
    text, spans = "Ask ann or bob, please.", [Span("name", 4, 7), Span("name", 11, 14)]
    assert masked(text, spans) == hidden(text, spans) == "Ask [NAME] or [NAME], please."
    assert shown("a" * 100 + "bob" + "c" * 100, Span("name", 100, 103)) == "a" * 50 + "bob" + "c" * 50
    assert hidden("a" * 100 + "bob" + "c" * 100, [Span("name", 100, 103)]) == "a" * 50 + "[NAME]" + "c" * 50


def test_blanked_keeps_every_place():
    text = "one `two` three ```four\nfive``` six"
    assert len(blanked(text)) == len(text) and blanked(text).split() == ["one", "three", "six"]


def test_strings_are_all_texts_and_no_labels():
    row = {**pair("Why?", "So.", "No."), "id": "ann@x.org", "votes": [{"by": "ann@x.org"}], "tags": ["a"]}
    assert list(strings(row)) == ["Why?", "So.", "No."]


def test_requests_are_the_users_words():
    items = scope_of("sft", [chat("One?", "Yes.", "Two?", "No.", system="Be brief.")]).items
    assert requests(items[0]) == "One?\nTwo?"
