"""vLLM as the policy's engine: it is handed the policy's weights, its answers are told as the policy sees them.

No test starts vLLM: a module that computes with Transformers and PEFT stands in for it.
"""

import inspect
import json
from dataclasses import replace

import pytest
import torch
import vllm_stand_in

from pipeline.errors import ConfigError, StageFailed
from pipeline.schema import ModelConfig, PeftConfig, Runtime, Suite
from stages.evaluate import Evaluate, EvaluateConfig
from stages.kernels import agreement, vllm
from stages.kernels.lora import switched_on
from stages.kernels.rollout import Sampling, rollout
from stages.label import Label, LabelConfig
from stages.models.adapters import peft_config
from stages.models.chain import load_policy
from stages.models.roles import open_roles
from stages.ppo import Ppo, PpoConfig
from stages.rl.config import PpoTrain, Rollouts
from stages.training import several

PROMPTS = [[5, 9, 12, 7], [5, 9, 30], [5, 9, 12, 40, 41, 42, 43]]


@pytest.fixture(scope="module")
def bf16(bench):
    """A base of 16 bits, on which adapters cannot become part of the weights."""
    from pipeline.registry import kind

    config = kind("base").config(kind="base", model=ModelConfig(source="toy", dtype="bfloat16"))
    return bench.run(bench.context("base16", config, {}, {})).artifact


@pytest.fixture(scope="module")
def chain(bench, bf16, chat_data, rows):
    """Two adapters of different ranks on it, the first of which knows only some layers."""
    few = PeftConfig(r=3, alpha=9.0, target_modules=["q_proj", "v_proj", "down_proj"])
    first = bench.train("sft", bf16, {"train": chat_data}, peft=few)
    return bench.train("sft", first.artifact, {"train": chat_data}, seed=7).artifact


def opened(bench, artifact):
    """The model of an artifact, in float32 so that its numbers can be compared to more digits."""
    policy = load_policy(artifact, dict(bench.made), device="cpu")
    policy.model.float()
    return vllm.answered_by(policy, "vllm")


def trained(bench, artifact, fast=True):
    """The policy of PPO on an artifact: with a new adapter, that already changes something."""
    from stages.kernels.step import install

    adapter = peft_config(PeftConfig(r=4, alpha=8.0))
    torch.manual_seed(3)
    roles = open_roles(artifact, {}, dict(bench.made), adapter, device="cpu", method="lora", cache=bench.root / "c")
    roles.policy.model.float().eval()
    disturb(roles, 0.1)
    if fast:
        assert install(roles.policy.model, "fast").startswith("fast")
    vllm.answered_by(roles.policy, "vllm")
    return roles


def disturb(roles, size):
    for name, parameter in roles.model.named_parameters():
        if ".default." in name:
            parameter.data.add_(size * torch.randn_like(parameter))


@pytest.fixture
def started(monkeypatch):
    return vllm_stand_in.install(monkeypatch)


def agrees(policy):
    """The engine's log-probabilities of the last answers equal the policy's own."""
    return policy.engine.spreads[-1].largest < 1e-4


# -- the weights --------------------------------------------------------------------------------------------------
def test_a_chain_of_adapters_is_handed_over_as_one(bench, chain, bf16, started):
    policy = opened(bench, chain)
    rollout(policy, PROMPTS, Sampling(6, samples=2, seed=1))
    assert agrees(policy) and started[0].enable_lora and started[0].max_lora_rank == 8  # 3 + 4, and what vLLM takes
    plain = opened(bench, bf16)
    assert plain.engine is policy.engine  # one engine for a base
    rollout(plain, PROMPTS, Sampling(6, samples=2, seed=1))
    assert agrees(plain) and len(started) == 1


def test_a_base_alone_needs_no_adapter_and_makes_room_when_one_comes(bench, bf16, chain, started):
    plain = opened(bench, bf16)
    rollout(plain, PROMPTS, Sampling(3))
    assert agrees(plain) and not started[0].enable_lora
    policy = opened(bench, chain)
    rollout(policy, PROMPTS, Sampling(3))
    assert agrees(policy) and len(started) == 2 and started[1].max_lora_rank == 8


@pytest.mark.parametrize("fast", [True, False])
def test_the_trained_adapter_is_handed_over_as_it_is_now(bench, chain, started, fast):
    roles = trained(bench, chain, fast)
    for size in (0.0, 0.05, 0.1):
        disturb(roles, size)
        rollout(roles.policy, PROMPTS, Sampling(5, samples=2, seed=2))
        assert agrees(roles.policy)
    (llm,) = started
    assert [request.lora_int_id for request in llm.requests] == [1, 2, 3] and llm.removed == [1, 2]
    assert len({request.lora_name for request in llm.requests}) == 3  # by which vLLM knows cached prompts


def test_what_has_not_changed_is_not_loaded_again(bench, chain, started):
    roles = trained(bench, chain)
    for _ in range(2):
        rollout(roles.policy, PROMPTS, Sampling(3))
    assert len(started[0].requests) == 1


def test_an_adapter_that_is_off_is_not_handed_over(bench, chain, started):
    roles = trained(bench, chain)
    rollout(roles.policy, PROMPTS, Sampling(5))
    with roles.playing("reference"):
        rollout(roles.policy, PROMPTS, Sampling(5))
    assert agrees(roles.policy) and len(started[0].requests) == 2
    assert max(len(a) for a, _ in switched_on(roles.policy.model).values()) == 11


@pytest.mark.parametrize("taken", ["adapter", "twice"])
def test_an_engine_with_other_weights_is_caught_at_its_first_answers(bench, chain, monkeypatch, taken):
    vllm_stand_in.install(monkeypatch, taken)
    with pytest.raises(StageFailed, match=r"other weights than the policy.*Use engine=own"):
        rollout(trained(bench, chain).policy, PROMPTS, Sampling(8, samples=4))


def test_an_engine_that_stays_with_the_first_adapter_is_caught(bench, chain, monkeypatch):
    vllm_stand_in.install(monkeypatch, "first")
    roles = trained(bench, chain)
    rollout(roles.policy, PROMPTS, Sampling(8, samples=4))
    disturb(roles, 0.2)
    with pytest.raises(StageFailed, match="other weights"):
        rollout(roles.policy, PROMPTS, Sampling(8, samples=4))


def test_adapters_that_became_part_of_the_weights_are_refused(bench, domain, started):
    """Of float32 weights; there is nothing left to hand over."""
    policy = vllm.answered_by(load_policy(domain.artifact, dict(bench.made), device="cpu"), "vllm")
    with pytest.raises(StageFailed, match="adapters have become part of its weights"):
        rollout(policy, PROMPTS, Sampling(3))


def test_the_share_that_is_missing_is_the_slope_over_the_effect():
    draw = torch.Generator().manual_seed(0)
    own, effect, noise = (torch.randn(400, generator=draw, dtype=torch.float64) for _ in range(3))
    rows = lambda values: [part.tolist() for part in values.split(20)]  # noqa: E731
    for share in (0.0, 0.4, 1.0, -1.0):
        told = own + share * effect + 0.05 * noise
        assert agreement.missing(rows(told), rows(own), rows(own + effect)) == pytest.approx(share, abs=0.01)
        assert agreement.missing(rows(told), rows(own), rows(own + effect)[:4]) == pytest.approx(share, abs=0.03)
    assert agreement.missing(rows(own), rows(own), rows(own + 0.1 * effect)) is None  # drowned by rounding
    assert agreement.missing([[0.0]], [[0.0]], [[1.0]]) is None  # a single token says little


@pytest.mark.parametrize(("spread", "said"), [
    ((0.05, 0.4, 200), None), ((0.05, 0.4, 200, 0.2), None), ((0.5, 0.5, 1), None),
    ((0.4, 2.0, 200), "by 0.4 nats a token"), ((4.0, 4.0, 1), "by 4 nats a token"),
    ((0.2, 0.9, 200, 0.8), "as if 80% of its adapters were missing"), ((0.2, 0.9, 200, -1.0), "as if -100%"),
    ((float("nan"), float("nan"), 200), "nan"), ((0.1, 0.2, 200, float("nan")), "nan"),
])  # fmt: skip
def test_what_rounding_does_not_explain_stops_the_stage(spread, said):
    if said is None:
        agreement.Spread(*spread).check()
        return
    with pytest.raises(StageFailed, match=said):
        agreement.Spread(*spread).check()


# -- the answers --------------------------------------------------------------------------------------------------
def told(answer):
    return answer.ids + ([answer.end] if answer.ended else [])


def test_greedy_answers_are_the_policys_own(bench, chain, started):
    policy = opened(bench, chain)
    found = rollout(policy, PROMPTS, Sampling(9, temperature=0.0))
    policy.engine = None
    own = rollout(policy, PROMPTS, Sampling(9, temperature=0.0))
    assert [(a.ids, a.end) for a in found] == [(a.ids, a.end) for a in own]
    for a, b in zip(found, own, strict=True):
        assert a.log_probs == pytest.approx(b.log_probs, abs=1e-4)


@pytest.mark.parametrize("micro_batch", [0, 2])
def test_log_probs_are_those_of_the_policy_at_the_sampling_temperature(bench, chain, started, micro_batch):
    policy = opened(bench, chain)
    found = rollout(policy, PROMPTS, Sampling(5, temperature=0.5, top_k=3, samples=2, seed=1), micro_batch)
    for number, answer in enumerate(found):
        prompt = PROMPTS[number // 2]
        with torch.no_grad():
            logits = policy.model(torch.tensor([prompt + told(answer)])).logits[0, len(prompt) - 1 : -1] / 0.5
        expected = logits.log_softmax(1).gather(1, torch.tensor(told(answer))[:, None])[:, 0]
        assert answer.log_probs == pytest.approx(expected.tolist(), abs=1e-4)
    assert agrees(policy)


def test_an_answer_depends_on_its_number_alone(bench, chain, started):
    policy = opened(bench, chain)
    together = rollout(policy, PROMPTS, Sampling(6, samples=2, seed=3))
    alone = rollout(policy, PROMPTS[1:2], Sampling(6, samples=2, seed=3), numbers=[1])
    assert [told(a) for a in alone] == [told(a) for a in together[2:4]]
    other = rollout(policy, PROMPTS, Sampling(6, samples=2, seed=4))
    assert [told(a) for a in other] != [told(a) for a in together]


def test_answers_end_at_an_end_token_or_at_their_length(bench, chain, started, monkeypatch):
    policy = opened(bench, chain)
    found = rollout(policy, PROMPTS, Sampling(12, samples=4, temperature=2.0))
    assert all(len(a.ids) == 12 for a in found if not a.ended)
    (greedy,) = rollout(policy, PROMPTS[:1], Sampling(12, temperature=0.0))
    end = greedy.ids[3]
    monkeypatch.setattr(vllm, "end_tokens", lambda policy: {end})
    (cut,) = rollout(policy, PROMPTS[:1], Sampling(12, temperature=0.0))
    first = greedy.ids.index(end)
    assert cut.end == end and cut.ids == greedy.ids[:first] and len(cut.log_probs) == first + 1


def test_a_complete_answer_is_cut_where_the_policy_would_have_stopped(bench, chain, started):
    policy = opened(bench, chain)
    stopped = lambda ids: len(ids) == 3 or ids[-1] == 5  # noqa: E731
    found = rollout(policy, PROMPTS, Sampling(9, temperature=0.0), stopped=stopped)
    policy.engine = None
    own = rollout(policy, PROMPTS, Sampling(9, temperature=0.0), stopped=stopped)
    assert [(a.ids, a.end, len(a.log_probs)) for a in found] == [(a.ids, a.end, len(a.log_probs)) for a in own]


def test_a_start_leaves_the_random_numbers_of_the_process_as_they_were(bench, chain, started):
    policy = opened(bench, chain)
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    rollout(policy, PROMPTS, Sampling(2))
    assert torch.equal(torch.rand(3), expected)


# -- the stages that write answers --------------------------------------------------------------------------------
SIZE = {"size": {"kind": "length", "target": 30, "unit": "characters"}}
SHORT = {"terms": {"short": {"kind": "length", "free": 3}}}
PLACE = Runtime(threads=1, logging_steps=1)


@pytest.fixture
def prompts(bench, rows):
    return bench.data("prompts", [{"id": row["id"], "prompt": row["prompt"]} for row in rows.pairs(6)])


def ppo(bench, policy, prompts, **settings):
    config = PpoConfig(
        kind="ppo", data={"train": "d"}, max_length=64, batch_size=4, peft=PeftConfig(r=4, alpha=8.0), runtime=PLACE,
        train=PpoTrain(max_steps=3, minibatches=1, num_ppo_epochs=2, learning_rate=0.02), reward=SHORT,
        rollout=Rollouts(max_new_tokens=6), **{"engine": "vllm", **settings},
    )  # fmt: skip
    Ppo().validate(config)
    return bench.run(bench.context("ppo", config, {"policy": policy}, {"train": prompts}))


def history(made):
    return [json.loads(line) for line in (made.artifact.path / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("step", ["fast", "plain"])
def test_ppo_learns_from_answers_of_its_newest_policy(bench, base, prompts, started, step):
    """And its ratios begin at 1, which a probe of the stage asks for: no number of the engine is among them."""
    made = ppo(bench, base, prompts, step=step)
    assert [entry["engine_gap_max"] < 1e-4 for entry in history(made)] == [True] * 3
    assert history(made)[0]["first_ratio_error"] == 0.0 and history(made)[-1]["moved"] > 0
    assert len(started[0].requests) == 3 and made.sections["engine"]["name"] == "vllm"
    assert made.sections["engine"]["gap"] < 1e-4 and made.artifact.path.joinpath("model/adapter").is_dir()


@pytest.mark.parametrize("taken", ["adapter", "first"])
def test_ppo_stops_where_the_engine_does_not_follow_it(bench, base, prompts, monkeypatch, taken):
    vllm_stand_in.install(monkeypatch, taken)
    with pytest.raises(StageFailed, match="holds other weights"):
        ppo(bench, base, prompts)


def test_an_evaluation_has_the_engine_in_its_manifest_and_keeps_its_results_apart(bench, base, rows, started):
    heldout = bench.data("tasks", [])
    items = [{**row, "check": {"type": "words", "max": 9}} for row in rows.pairs(4)]
    (heldout.path / "data" / "heldout.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    suites = {"s": Suite("generate", "tasks", params={"max_new_tokens": 4})}
    made = {}
    for engine in ("own", "vllm"):
        config = EvaluateConfig(kind="evaluate", suites=suites, engine=engine, runtime=Runtime(threads=1))
        Evaluate().validate(config)
        made[engine] = bench.run(bench.context("eval", config, {"model": base}, {"tasks": heldout}))
    assert made["vllm"].metrics == made["own"].metrics  # greedy answers are the same
    assert "known" not in made["vllm"].sections and made["vllm"].sections["engine"]["gap"] < 1e-4
    assert "engine" not in made["own"].sections and len(started) == 1


def test_a_labeller_asks_the_engine(bench, base, prompts, started):
    config = LabelConfig(
        kind="label", data={"train": "d"}, terms=SIZE, engine="vllm", runtime=Runtime(threads=1),
        rollout=Rollouts(max_new_tokens=4, samples=2),
    )  # fmt: skip
    Label().validate(config)
    made = bench.run(bench.context("label", config, {"policy": base}, {"train": prompts}))
    assert made.sections["engine"]["name"] == "vllm" and len(started) == 1


def test_memory_of_a_gpu_is_planned_without_what_vllm_takes(bench, monkeypatch):
    monkeypatch.setattr(several, "of_device", lambda device: 1000)
    for engine, room in (("own", 1000), ("vllm", 600)):
        config = PpoConfig(kind="ppo", engine=engine)
        assert several.memory(bench.context("ppo", config, {}, {}), "cuda") == room


# -- what is refused ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"engine": "vlm"}, "engine=vlm: use one of own, vllm"),
        ({"runtime": Runtime(num_processes=2)}, "one process, and runtime.num_processes=2"),
        ({"method": "qlora"}, "4-bit weights of peft.method=qlora"),
        ({"runtime": Runtime(device="cpu")}, "needs a CUDA device"),
    ],
)
def test_a_place_that_cannot_be_is_refused(started, settings, said):
    usual = {"engine": "vllm", "runtime": Runtime(), "method": "lora"}
    vllm.check_engine(**usual)
    with pytest.raises(ConfigError, match=said):
        vllm.check_engine(**{**usual, **settings})


def test_a_machine_without_gpu_or_vllm_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr(vllm, "_gpu", lambda: False)
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        vllm.check_engine("vllm", Runtime(), "lora")
    monkeypatch.setattr(vllm, "_gpu", lambda: True)
    monkeypatch.setattr(vllm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'journeyman\[vllm\]'"):
        vllm.check_engine("vllm", Runtime(), "lora")


def test_a_model_that_vllm_would_not_compute_alike_is_refused(bench, chain, started, monkeypatch):
    policy = opened(bench, chain)
    with pytest.raises(ConfigError, match=r"takes 0 for greedy answers, or 0.01"):
        rollout(policy, PROMPTS, Sampling(3, temperature=0.001))
    monkeypatch.setattr(vllm, "DTYPES", ("bfloat16",))
    with pytest.raises(ConfigError, match=r"stored in float32.*model.dtype=bfloat16"):
        rollout(policy, PROMPTS, Sampling(3))
    policy.quantized = "key"
    with pytest.raises(ConfigError, match="4-bit weights"):
        rollout(policy, PROMPTS, Sampling(3))
    assert started == []


def test_more_ranks_than_vllm_takes_are_refused(bench, chain, started, monkeypatch):
    monkeypatch.setattr(vllm, "RANKS", (1, 4))
    with pytest.raises(ConfigError, match="7 ranks together, vLLM takes at most 4"):
        rollout(opened(bench, chain), PROMPTS, Sampling(3))


def test_an_answer_that_was_given_up_is_no_answer(bench, chain, started, monkeypatch):
    real = vllm_stand_in.LLM._completed
    monkeypatch.setattr(vllm_stand_in.LLM, "_completed", lambda *a: replace(real(*a), finish_reason="abort"))
    policy = opened(bench, chain)
    assert len(rollout(policy, PROMPTS, Sampling(2, temperature=0.0))) == 3  # all of their tokens are there
    monkeypatch.setattr(
        vllm_stand_in.LLM, "_completed", lambda *a: vllm_stand_in.Completion([5], [{5: None}], "length")
    )
    with pytest.raises(StageFailed, match=r"after 1 of 2 tokens \(length\)"):
        rollout(policy, PROMPTS, Sampling(2, temperature=0.0))


def test_what_vllm_says_is_told_without_a_traceback(bench, chain, started, monkeypatch):
    def refuse(*args, **settings):
        raise ValueError("no room for a single block")

    monkeypatch.setattr(vllm_stand_in.LLM, "generate", refuse)
    with pytest.raises(StageFailed, match=r"did not write these answers.*no room for a single block"):
        rollout(opened(bench, chain), PROMPTS, Sampling(3))


# -- the library itself -------------------------------------------------------------------------------------------
def test_the_stand_in_takes_what_the_library_takes():
    library = pytest.importorskip("vllm")
    from dataclasses import fields

    from vllm.engine.arg_utils import EngineArgs
    from vllm.lora.request import LoRARequest

    known = {field.name for field in fields(EngineArgs)} | set(inspect.signature(library.LLM.__init__).parameters)
    assert {field.name for field in fields(vllm_stand_in.LLM)} - {"taken", "requests", "removed"} <= known
    given = {field.name: None for field in fields(vllm_stand_in.SamplingParams)}
    assert given.keys() <= set(library.SamplingParams.__struct_fields__)
    assert LoRARequest.__struct_fields__[:3] == ("lora_name", "lora_int_id", "lora_path")
    accepted = inspect.signature(library.LLM.generate).parameters
    assert {"prompts", "sampling_params", "use_tqdm", "lora_request"} <= set(accepted)
