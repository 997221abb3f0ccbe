"""Rows as the model sees them: the same tokens as the trainer's, which of them are trained, what is cut, how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.data.contract.structure import blank
from stages.data.quality.samples import MEASURED, Piece, lengths, sample
from stages.models.chat import IGNORE, answer_ids, chat_example, prompt_ids, text_example

ASKED = {"role": "user", "content": "May I sell it?"}
CHAT = {"messages": [ASKED, {"role": "assistant", "content": "Yes."}]}
LONG = {"messages": [ASKED, {"role": "assistant", "content": "Yes, with the notice. " * 20}]}
PAIR = {"prompt": [ASKED], "chosen": "Yes.", "rejected": "I cannot say that."}


def text_of(rendered, trained=None):
    return "".join(piece.text for piece in rendered.pieces if trained is None or piece.trained is trained)


SEEN = st.text(min_size=1, max_size=20).filter(lambda text: not blank(text))


def only(samples):
    (one,) = samples
    return one


@pytest.fixture(scope="module")
def metaspace():
    """A tokenizer of the SentencePiece kind: a word's space belongs to its token and is lost where a text begins."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", "▁May", "▁I", "▁sell", "▁it", "?", "▁Yes", ".", "▁"]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    raw.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ bos_token if m.role == 'user' }} {{ m.content }}"
        "{{ eos_token if m.role == 'assistant' }}{% endfor %}"
    )
    return tokenizer


# -- conversations ------------------------------------------------------------------------------------------------
def test_a_conversation_is_what_the_trainer_makes_of_it(tokenizer, located):
    found = only(sample(located([CHAT]), "sft", tokenizer, 512, seed=0))
    (rendered,), example = found.rendered, chat_example(tokenizer, CHAT["messages"], 512)
    assert (found.file, found.line, found.note) == ("rows.jsonl", 1, "")
    assert text_of(rendered) == tokenizer.decode(example.ids)
    assert text_of(rendered, trained=True) == "Yes.<|im_end|>"
    assert (rendered.tokens, rendered.trained, rendered.left_out) == (len(example.ids), example.trained, 0)


def test_tokens_with_a_name_are_apart_from_text_that_is_only_spelt_so(tokenizer, located):
    found = only(sample(located([CHAT]), "sft", tokenizer, 512, seed=0))
    special = [piece.text for piece in found.rendered[0].pieces if piece.special]
    assert special == ["<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>"]


def test_what_lies_behind_max_length_is_gone_and_counted(tokenizer, located):
    (rendered,) = only(sample(located([LONG]), "sft", tokenizer, 40, seed=0)).rendered
    whole = chat_example(tokenizer, LONG["messages"], 10_000)
    assert text_of(rendered) == tokenizer.decode(whole.ids[:40])
    assert (rendered.tokens, rendered.left_out) == (40, len(whole.ids) - 40)


def test_a_row_without_a_trained_token_is_said_to_be_left_out(tokenizer, located):
    found = only(sample(located([LONG]), "sft", tokenizer, 5, seed=0))
    assert found.rendered[0].trained == 0 and "leaves the row out" in found.note


def test_spaces_survive_a_tokenizer_that_drops_them_at_the_beginning(metaspace, located):
    (rendered,) = only(sample(located([CHAT]), "sft", metaspace, 512, seed=0)).rendered
    example = chat_example(metaspace, CHAT["messages"], 512)
    assert text_of(rendered) == metaspace.decode(example.ids)
    assert "May I sell it?" in text_of(rendered, trained=False)


@given(st.lists(SEEN, min_size=2, max_size=2), st.integers(1, 60))
def test_the_pieces_are_the_whole_text_whatever_it_is(tokenizer, texts, max_length):
    from stages.data.findings import Located

    turns = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), texts, strict=True)]
    (rendered,) = only(sample([Located({"messages": turns}, "a", 1)], "sft", tokenizer, max_length, seed=0)).rendered
    example = chat_example(tokenizer, turns, max_length)
    assert text_of(rendered) == tokenizer.decode(example.ids, clean_up_tokenization_spaces=False)
    assert rendered.trained == example.trained


# -- documents ----------------------------------------------------------------------------------------------------
def test_a_document_is_its_first_piece_and_says_that_it_goes_on(tokenizer, located):
    row = {"text": "Keep the notice. " * 30}
    found = only(sample(located([row]), "domain", tokenizer, 50, seed=0))
    assert text_of(found.rendered[0]) == tokenizer.decode(text_example(tokenizer, row["text"], 50)[0].ids)
    assert found.rendered[0].tokens == 50 and "goes on in further pieces of up to 50" in found.note
    assert found.rendered[0].trained == 49  # nothing comes before the first token


def test_a_character_of_which_only_the_first_bytes_are_untrained_stays_whole(tokenizer, located):
    (rendered,) = only(sample(located([{"text": "語る"}]), "domain", tokenizer, 50, seed=0)).rendered
    assert rendered.pieces == (Piece("語る", True), Piece("<|im_end|>", True, True))


# -- answers that are compared ------------------------------------------------------------------------------------
def test_a_pair_is_shown_as_both_sequences_that_the_stage_compares(tokenizer, located):
    found = only(sample(located([PAIR]), "dpo", tokenizer, 512, seed=0))
    assert [rendered.name for rendered in found.rendered] == ["chosen", "rejected"]
    for rendered in found.rendered:
        answer = answer_ids(tokenizer, PAIR[rendered.name])
        assert text_of(rendered, trained=True) == tokenizer.decode(answer) and rendered.trained == len(answer)
        assert text_of(rendered, trained=False) == tokenizer.decode(prompt_ids(tokenizer, PAIR["prompt"]))


def test_a_pair_that_is_too_long_is_shown_whole_and_said_to_be_left_out(tokenizer, located):
    longest = len(prompt_ids(tokenizer, PAIR["prompt"])) + len(answer_ids(tokenizer, PAIR["rejected"]))
    fits, not_quite = (only(sample(located([PAIR]), "dpo", tokenizer, longest - i, seed=0)) for i in (0, 1))
    assert fits.note == "" and "leaves it out" in not_quite.note and fits.rendered == not_quite.rendered


def test_for_ppo_only_the_prompt_is_shown_and_nothing_of_it_is_trained(tokenizer, located):
    found = only(sample(located([PAIR]), "ppo", tokenizer, 512, seed=0))
    (rendered,) = found.rendered
    assert "the model writes the answer itself" in found.note
    assert rendered.trained == 0 and text_of(rendered).endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("row", "stage", "names"),
    [
        ({"prompt": [ASKED], "answers": ["Yes.", "No."]}, "reward", ["answer 1", "answer 2"]),
        ({"prompt": [ASKED], "a": "Yes.", "b": "No.", "votes": ["a"]}, "reward", ["a", "b"]),
        ({"prompt": [ASKED], "completion": "Yes.", "label": True}, "kto", ["completion"]),
    ],
)
def test_every_answer_of_a_row_is_a_sequence(tokenizer, located, row, stage, names):
    found = only(sample(located([row]), stage, tokenizer, 512, seed=0))
    assert [rendered.name for rendered in found.rendered] == names


# -- which rows ---------------------------------------------------------------------------------------------------
def test_rows_are_drawn_under_the_seed_in_the_order_of_the_data(tokenizer, located, rows):
    data = located(rows.chat(40))
    lines = [[each.line for each in sample(data, "sft", tokenizer, 64, seed=seed)] for seed in (1, 1, 2)]
    assert lines[0] == lines[1] != lines[2] and len(set(lines[0])) == 10 and lines[0] == sorted(lines[0])


def test_rows_that_the_stage_cannot_read_are_passed_over(tokenizer, located):
    broken = [{"messages": "no list"}, {"messages": [{"role": "assistant", "content": ""}]}, {"text": "a"}, "no row"]
    found = sample(located([*broken, CHAT]), "sft", tokenizer, 64, seed=0)
    assert [each.line for each in found] == [5]
    assert sample([], "sft", tokenizer, 64, seed=0) == []


# -- lengths ------------------------------------------------------------------------------------------------------
def test_lengths_of_conversations(tokenizer, located):
    two = {"messages": [*CHAT["messages"], *LONG["messages"]]}
    found = lengths(located([CHAT, two, {"text": "another form"}]), "sft", tokenizer)
    examples = [chat_example(tokenizer, row["messages"], 10_000) for row in (CHAT, two)]
    assert found["turns per conversation"] == [2, 4]
    assert found["tokens per sequence"] == [len(example.ids) for example in examples]
    assert found["tokens per answer"] == [
        len(answer_ids(tokenizer, row["messages"][i]["content"])) for row, i in ((CHAT, 1), (two, 1), (two, 3))
    ]
    untrained = sum(label == IGNORE for example in examples for label in example.labels)
    assert sum(found["tokens per prompt"]) == untrained


def test_lengths_of_pairs_count_their_common_prompt_once(tokenizer, located):
    found = lengths(located([PAIR]), "dpo", tokenizer)
    prompt, (chosen, rejected) = (
        len(prompt_ids(tokenizer, PAIR["prompt"])),
        (len(answer_ids(tokenizer, PAIR[name])) for name in ("chosen", "rejected")),
    )
    assert found == {
        "tokens per sequence": [prompt + chosen, prompt + rejected],
        "tokens per prompt": [prompt],
        "tokens per chosen answer": [chosen],
        "tokens per rejected answer": [rejected],
    }


def test_lengths_of_documents(tokenizer, located):
    (example,) = text_example(tokenizer, "Keep the notice.", 512)
    assert lengths(located([{"text": "Keep the notice."}]), "domain", tokenizer) == {
        "tokens per document": [len(example.ids)]
    }


def test_of_very_many_rows_some_are_measured_spread_evenly(tokenizer, located, monkeypatch):
    monkeypatch.setattr("stages.data.quality.samples.MEASURED", 5)
    data = located([{"text": "a" * (i + 1)} for i in range(12)])
    assert len(lengths(data, "domain", tokenizer)["tokens per document"]) == 4  # every third
    assert MEASURED >= 10_000
