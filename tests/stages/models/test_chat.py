"""Conversations as token ids: what is trained, what is masked, and what the template digest sees."""

import pytest

from pipeline.errors import ConfigError, DataError
from stages.models.chat import (
    IGNORE,
    answer_ids,
    chat_example,
    chat_examples,
    document_prefix,
    encode,
    prompt_ids,
    render,
    template_digest,
    text_example,
    tokenizer_digest,
)

ONE = [{"role": "user", "content": "May I copy it?"}, {"role": "assistant", "content": "Yes, with the notice."}]
TWO = [*ONE, {"role": "user", "content": "And sell it?"}, {"role": "assistant", "content": "Yes."}]


@pytest.fixture
def toy():
    """The toy tokenizer, one's own to change."""
    from stages.models.sources import toy

    return toy()[1]


def with_bos(tokenizer, *, adds_itself):
    """A tokenizer with BOS: rendered by its template, and put before plain text by itself if `adds_itself`."""
    from tokenizers.processors import TemplateProcessing

    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    if adds_itself:
        bos = tokenizer.bos_token_id
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    return tokenizer


def trained_runs(example):
    """The stretches of trained tokens."""
    runs, run = [], []
    for label in [*example.labels, IGNORE]:
        if label != IGNORE:
            run.append(label)
        elif run:
            runs.append(run)
            run = []
    return runs


def test_many_conversations_are_encoded_as_each_by_itself(toy, monkeypatch):
    monkeypatch.setattr("stages.models.chat.TOGETHER", 2)
    several = [TWO, ONE, TWO[:2], ONE[:1], TWO]
    found = list(chat_examples(toy, iter(several), 24))
    assert found == [chat_example(toy, messages, 24) for messages in several] and len(found) == 5


@pytest.mark.parametrize("pad_is_eos", [False, True])
@pytest.mark.parametrize("messages", [ONE, TWO], ids=["one turn", "two turns"])
def test_each_answer_is_trained_to_its_eos_and_nothing_else(toy, messages, pad_is_eos):
    if pad_is_eos:
        toy.pad_token = toy.eos_token
    example = chat_example(toy, messages, 512)
    answers = [m["content"] for m in messages if m["role"] == "assistant"]
    assert trained_runs(example) == [[*toy.encode(answer), toy.eos_token_id] for answer in answers]
    assert all(label in (IGNORE, token) for token, label in zip(example.ids, example.labels, strict=True))
    assert example.trained == sum(label != IGNORE for label in example.labels) and not example.cut


@pytest.mark.parametrize("messages", [ONE, TWO], ids=["one turn", "two turns"])
def test_ids_spell_the_rendered_conversation(toy, messages):
    whole = render(toy, messages, generation_prompt=False)
    assert toy.decode(chat_example(toy, messages, 512).ids) == whole.removesuffix("\n")


def test_training_meets_the_context_that_generation_will_meet(toy):
    example = chat_example(toy, TWO, 512)
    prompt = prompt_ids(toy, ONE[:1])
    assert example.ids[: len(prompt)] == prompt and set(example.labels[: len(prompt)]) == {IGNORE}
    assert example.ids == chat_example(toy, ONE, 512).ids + encode(toy, "\n") + prompt_ids(toy, TWO[2:3]) + answer_ids(
        toy, "Yes."
    )


def test_system_turn_is_context_only(toy):
    system = {"role": "system", "content": "You are brief."}
    example = chat_example(toy, [system, *ONE], 512)
    assert trained_runs(example) == trained_runs(chat_example(toy, ONE, 512))
    assert "You are brief." in toy.decode(example.ids)


def test_long_conversation_is_cut_and_says_so(toy):
    whole = chat_example(toy, TWO, 512)
    cut = chat_example(toy, TWO, len(whole.ids) - 1)
    assert cut.cut and cut.ids == whole.ids[:-1] and cut.labels == whole.labels[:-1]
    assert not chat_example(toy, TWO, len(whole.ids)).cut
    prompt_only = chat_example(toy, ONE, 5)
    assert prompt_only.cut and prompt_only.trained == 0


@pytest.mark.parametrize("adds_itself", [False, True])
def test_one_bos_in_chats_and_texts(toy, adds_itself):
    tokenizer = with_bos(toy, adds_itself=adds_itself)
    bos = tokenizer.bos_token_id
    chat = chat_example(tokenizer, TWO, 512)
    assert chat.ids.count(bos) == 1 and chat.ids[0] == bos and chat.labels[0] == IGNORE
    (text,) = text_example(tokenizer, "Keep the notice.", 512)
    assert document_prefix(tokenizer) == ([bos] if adds_itself else [])
    assert text.ids.count(bos) == int(adds_itself)


@pytest.mark.parametrize("adds_itself", [False, True])
def test_text_pieces_hold_every_token_once_and_end_in_eos(toy, adds_itself):
    tokenizer = with_bos(toy, adds_itself=adds_itself)
    text = "Copy the work and keep the notice of the licence. " * 9
    pieces = text_example(tokenizer, text, 32)
    prefix = document_prefix(tokenizer)
    assert all(len(piece.ids) <= 32 and piece.ids[: len(prefix)] == prefix for piece in pieces)
    assert all(piece.labels == [IGNORE, *piece.ids[1:]] for piece in pieces)  # nothing is before the first token
    body = [token for piece in pieces for token in piece.ids[len(prefix) :]]
    assert body == [*encode(tokenizer, text), tokenizer.eos_token_id]
    assert len(pieces) > 3


def test_a_last_piece_of_eos_alone_is_left_out(toy):
    text = "Keep the notice."
    count = len(encode(toy, text))
    (piece,) = text_example(toy, text, count)
    assert piece.ids == encode(toy, text) and piece.trained == count - 1
    assert len(text_example(toy, text, count - 1)) == 2
    assert text_example(toy, "", 8) == []


def test_template_that_rewrites_earlier_turns_is_refused_for_several_turns(toy):
    toy.chat_template = "{% for m in messages %}{{ loop.length }}{{ m.content }}{% endfor %}"
    assert chat_example(toy, ONE, 512).trained
    with pytest.raises(DataError, match=r"rewrites earlier turns"):
        chat_example(toy, TWO, 512)


def test_no_template_is_a_configuration_error(toy):
    toy.chat_template = None
    with pytest.raises(ConfigError, match=r"model.chat_template"):
        chat_example(toy, ONE, 512)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<|im_end|>\n", "<|im_end|>"),
        ("<|im_start|>assistant\n", "<|im_start|>bot\n"),
        ("m.content", "m.content|upper"),
    ],
)
def test_template_digest_changes_with_what_is_rendered(toy, old, new):
    before = template_digest(toy)
    assert old in toy.chat_template
    toy.chat_template = toy.chat_template.replace(old, new)
    assert template_digest(toy) != before


def test_template_digest_ignores_spelling(toy):
    before = template_digest(toy)
    toy.chat_template = "{# says the same #}" + toy.chat_template.replace("{{ m.role }}", "{{ m['role'] }}").replace(
        "for m in messages %}", "for m in messages -%}\n  "
    )
    assert template_digest(toy) == before


def test_tokenizer_digest_sees_vocabulary_and_special_tokens(toy):
    before = tokenizer_digest(toy)
    toy.pad_token = toy.eos_token
    other = tokenizer_digest(toy)
    assert other != before
    toy.add_tokens(["licence-token"])
    assert tokenizer_digest(toy) != other
