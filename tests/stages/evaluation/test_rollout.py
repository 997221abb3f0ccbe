"""Sampled answers: the library's own where nothing is random, as the distribution says where it is, in any batch."""

import numpy
import pytest
import torch

from pipeline.errors import ConfigError
from stages.evaluation import forward
from stages.kernels import prefill, rollout
from stages.kernels.rollout import Sampling, pick


@pytest.fixture(params=["policy", "capped"])
def any_policy(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("micro_batch", [0, 1, 2])
def test_greedy_equals_the_librarys_own_generation(any_policy, questions, micro_batch):
    prompts = forward.prompts_of(any_policy, questions)
    found = forward.greedy(any_policy, prompts, 12, micro_batch)
    for prompt, answer in zip(prompts, found, strict=True):
        out = any_policy.model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, pad_token_id=0)
        assert answer == any_policy.tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True).strip()


def test_a_finished_answer_ends_at_the_end_of_turn_while_others_go_on(policy, monkeypatch):
    """The script: row k says a word until its turn to stop; rows leave the batch, answers stay in their places."""
    word, stop = policy.tokenizer.encode("a")[0], policy.tokenizer.eos_token_id
    lives = {10: 1, 20: 4, 30: 0, 40: 2, 50: 6}  # length of a prompt -> words of its answer
    seen = []

    def scripted(policy, rows, columns, **inputs):
        positions = inputs["position_ids"][:, -1].tolist() if len(rows) else []
        seen.append(len(positions))
        begun = [max(n for n in lives if n - 1 <= position) for position in positions]
        alive = [position - (n - 1) < lives[n] for position, n in zip(positions, begun, strict=True)]
        picks = torch.tensor([word if ok else stop for ok in alive], dtype=torch.long)
        return torch.nn.functional.one_hot(picks, len(policy.tokenizer)).float(), None

    prompts = [[word] * n for n in lives]
    monkeypatch.setattr(rollout, "logits_at", scripted)
    monkeypatch.setattr(prefill, "logits_at", scripted)
    found = rollout.rollout(policy, prompts, Sampling(20, temperature=0.0))
    assert [answer.ids for answer in found] == [[word] * n for n in lives.values()]
    assert all(answer.end == stop and len(answer.log_probs) == len(answer.ids) + 1 for answer in found)
    steps = [rows for rows in seen if rows]
    assert steps[0] == 5 and steps[-1] == 1 and len(steps) == 7


def test_log_probs_equal_a_plain_pass(any_policy, reference, questions):
    prompts = forward.prompts_of(any_policy, questions)
    found = rollout.rollout(any_policy, prompts, Sampling(9, samples=3, seed=4))
    assert len(found) == 3 * len(prompts)
    for number, answer in enumerate(found):
        told = answer.ids + ([answer.end] if answer.ended else [])
        assert answer.log_probs == pytest.approx(reference(any_policy, prompts[number // 3], told), abs=1e-4)


def test_log_probs_are_of_the_sampling_temperature(policy, questions):
    prompt = forward.prompts_of(policy, questions)[0]
    (answer,) = rollout.rollout(policy, [prompt], Sampling(5, temperature=0.5, top_k=3, seed=1))
    told = answer.ids + ([answer.end] if answer.ended else [])
    with torch.inference_mode():
        logits = policy.model(torch.tensor([prompt + told])).logits[0, len(prompt) - 1 : -1].float() / 0.5
    expected = logits.log_softmax(dim=1).gather(1, torch.tensor(told)[:, None])[:, 0]
    assert answer.log_probs == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_an_answer_does_not_depend_on_what_it_is_sampled_with(policy, questions, micro_batch):
    prompts = forward.prompts_of(policy, questions)
    together = rollout.rollout(policy, prompts, Sampling(8, samples=2, seed=3))
    apart = rollout.rollout(policy, prompts, Sampling(8, samples=2, seed=3), micro_batch)
    assert [answer.ids for answer in together] == [answer.ids for answer in apart]
    other = rollout.rollout(policy, prompts, Sampling(8, samples=2, seed=4))
    assert [answer.ids for answer in together] != [answer.ids for answer in other]


LOGITS = torch.tensor([1.0, 3.0, 2.0, 0.5, -1.0])


def frequencies(sampling, draws=20_000):
    uniform = torch.from_numpy(numpy.random.default_rng(0).random(draws))
    tokens, _ = pick(LOGITS.repeat(draws, 1), sampling, uniform)
    return torch.bincount(tokens, minlength=len(LOGITS)) / draws


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"temperature": 0.5}, [0, 1, 2, 3, 4]),
        ({"top_k": 2}, [1, 2]),
        ({"top_p": 0.8}, [1, 2]),  # 0.63 alone is too little, 0.63 + 0.23 enough
        ({"top_p": 0.5}, [1]),
        ({"top_k": 3, "top_p": 0.9}, [1, 2]),  # of the three, 0.67 + 0.24
    ],
)
def test_tokens_come_as_often_as_the_distribution_says(settings, kept):
    expected = (LOGITS / settings.get("temperature", 1.0)).softmax(0)
    expected = torch.where(torch.isin(torch.arange(5), torch.tensor(kept)), expected, torch.zeros(()))
    torch.testing.assert_close(frequencies(Sampling(1, **settings)), expected / expected.sum(), atol=0.012, rtol=0)


def test_the_last_draw_before_1_is_a_token_of_the_nucleus():
    tokens, _ = pick(LOGITS[None], Sampling(1, top_p=0.8), torch.tensor([1 - 2**-53], dtype=torch.float64))
    assert tokens.tolist() == [2]


@pytest.mark.parametrize(
    "settings",
    [{"max_new_tokens": 0}, {"samples": 0}, {"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": -1},
     {"top_p": 0.0}, {"top_p": 1.5}],
)  # fmt: skip
def test_a_sampling_that_cannot_work_is_refused(policy, settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        rollout.rollout(policy, [[5]], Sampling(**{"max_new_tokens": 3, **settings}))


def test_a_step_does_not_copy_the_cache(policy, questions):
    """The tensors that hold keys stay where they are from one step to the next."""
    prompts = forward.prompts_of(policy, questions)
    with torch.inference_mode():
        filled = prefill.PromptCache(policy, prompts).fill(prompts)
        filled.grow(4)
        places = []
        for _ in range(4):
            filled.last = rollout._feed(policy, filled).argmax(dim=1)
            places.append([layer.keys.data_ptr() for layer in filled.cache.layers])
    assert all(place == places[0] for place in places)
