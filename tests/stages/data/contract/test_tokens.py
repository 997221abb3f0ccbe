import pytest
from contract_scopes import asked, chat, lines, pair, scope_of, votes

from stages.data.contract.tokens import no_trained_token, rows_cut, too_long
from stages.models.chat import answer_ids, chat_example, prompt_ids

LONG = "the licence allows you to use copy change and share this work " * 6
SHORT = "the licence"


def lengths(tokenizer, row):
    """Tokens before the first answer, and of the whole conversation."""
    example = chat_example(tokenizer, row["messages"], 1 << 30)
    return next(i for i, each in enumerate(example.labels) if each >= 0), len(example.ids)


@pytest.mark.parametrize("over, codes", [(0, "none"), (1, "cut"), (-1, "none")])
def test_a_row_at_the_edge_of_the_length(tokenizer, over, codes):
    row = chat(SHORT, LONG)
    scope = scope_of("sft", [row], tokenizer, lengths(tokenizer, row)[1] - over)
    assert (lines(rows_cut(scope)) == [1]) == (codes == "cut")
    assert not no_trained_token(scope)


def test_a_row_without_a_trained_token_is_not_also_counted_as_cut(tokenizer):
    rows = [chat(LONG, SHORT), chat(SHORT, LONG), chat(SHORT, SHORT)]
    before = lengths(tokenizer, rows[0])[0]
    scope = scope_of("sft", rows, tokenizer, before)
    assert lines(no_trained_token(scope)) == [1]
    assert f"max_length={before}" in no_trained_token(scope).message
    assert not no_trained_token(scope_of("sft", rows, tokenizer, before + 1))
    assert 1 not in lines(rows_cut(scope))


def test_lost_tokens_are_counted(tokenizer):
    row = chat(SHORT, LONG)
    found = rows_cut(scope_of("sft", [row], tokenizer, lengths(tokenizer, row)[1] - 5))
    assert found.detail == {"tokens_lost": 5, "tokens": len(answer_ids(tokenizer, LONG))}


def test_documents_are_split_and_lose_nothing(tokenizer):
    scope = scope_of("domain", [{"text": LONG * 5}], tokenizer, 16)
    assert not no_trained_token(scope) and not rows_cut(scope)


def test_pairs_by_their_longer_answer(tokenizer):
    rows = [pair(SHORT, SHORT, LONG), pair(SHORT, SHORT, "work")]
    length = len(prompt_ids(tokenizer, asked(SHORT))) + len(answer_ids(tokenizer, LONG))
    assert not too_long(scope_of("dpo", rows, tokenizer, length))
    found = too_long(scope_of("dpo", rows, tokenizer, length - 1))
    assert lines(found) == [1]
    assert f"the longest has {length} tokens" in found.message
    assert lines(too_long(scope_of("reward", [votes(SHORT, LONG, SHORT, x="b")], tokenizer, length - 1))) == [1]


def test_a_prompt_leaves_room_for_one_token(tokenizer):
    rows = [{"prompt": asked(LONG)}]
    length = len(prompt_ids(tokenizer, rows[0]["prompt"]))
    assert lines(too_long(scope_of("ppo", rows, tokenizer, length))) == [1]
    assert not too_long(scope_of("ppo", rows, tokenizer, length + 1))


def test_without_a_tokenizer_nothing_is_told():
    scope = scope_of("sft", [chat(LONG, SHORT)], None, 1)
    assert not no_trained_token(scope) and not rows_cut(scope)
    assert not too_long(scope_of("dpo", [pair(LONG, LONG, SHORT)], None, 1))
