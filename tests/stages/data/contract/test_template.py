from types import SimpleNamespace

import pytest
from contract_scopes import chat, lines, scope_of
from tokenizers import AddedToken

from stages.data.contract.template import template_tokens


def found_in(answer, prompt="What is the fee?", tokenizer=None):
    return template_tokens(scope_of("sft", [chat(prompt, answer)], tokenizer)) is not None


@pytest.mark.parametrize(
    "answer",
    [
        "<|im_start|>assistant\nThree.",
        "Three.<|im_end|>",
        "Three.<|endoftext|>",
        "Three.<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\nThree.",
        "[INST] why? [/INST] Three.",
        "<<SYS>>\nBe kind.\n<</SYS>>\nThree.",
        "<start_of_turn>model\nThree.<end_of_turn>",
        "<｜Assistant｜>Three.<｜end▁of▁sentence｜>",
        "<s>Three.</s>",
        "Three.</s>",
        "### Instruction:\nSay it.\n\n### Response:\nThree.",
        "Three.\n\nHuman: And then?\n\nAssistant: Four.",
        "Three.\nUser: And then?\nAssistant: Four.",
        "Assistant: Three.",
    ],
)
def test_leaked_tokens(answer):
    assert found_in(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "The token `<|im_end|>` ends a turn.",
        "```\n<|im_start|>user\n<|im_end|>\n```",
        "It was <s>five</s> three.",
        "### Instructions for use\n\nOpen it.",
        "The response: three.",
        "Human: a living being.",
        "a <| b |> c",
        "a[INSTANCE]",
    ],
)
def test_what_only_looks_like_one(answer):
    assert not found_in(answer)


def test_a_dialogue_that_was_asked_for():
    answer = "User: Good morning.\nAssistant: Good morning, what is it?"
    assert found_in(answer) and not found_in(answer, "Write a dialogue between a user and an assistant.")


def test_roles_in_a_prompt_are_no_leak_but_tokens_are():
    rows = [chat("User: hi\nAssistant: hello\nUser: fee?", "Three."), chat("<|im_start|>user\nfee?", "Three.")]
    assert lines(template_tokens(scope_of("sft", rows))) == [2]


def test_tokens_of_the_tokenizer_count_everywhere():
    """In code as well: its own token is read as one there, too. What could be a word is not looked for."""
    added = {0: AddedToken("<|quiz|>", special=True), 1: AddedToken("<x>", special=False)}
    tokenizer = SimpleNamespace(all_special_tokens=["[MASK]", "the", "!"], added_tokens_decoder=added)
    for answer in ("Fill in [MASK] here.", "`<|quiz|>`", "x <|quiz|>"):
        assert found_in(answer, tokenizer=tokenizer)
    for answer in ("the end!", "<x>", "`<|im_end|>`"):
        assert not found_in(answer, tokenizer=tokenizer)
    assert not found_in("Fill in [MASK] here.")


def test_documents_with_tokens():
    rows = [{"text": "One.<|endoftext|>Two."}, {"text": "User: a\nAssistant: b"}, {"text": "Plain."}]
    assert lines(template_tokens(scope_of("domain", rows))) == [1]
