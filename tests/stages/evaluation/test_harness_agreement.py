"""The same local items and model by lm_eval's own `HFLM` and by this project: equal numbers for every type of task."""

import harness_tasks
import pytest

from stages.evaluation.harness.asking import ask
from stages.evaluation.harness.items import rows
from stages.evaluation.harness.measure import Harness, HarnessParams
from stages.evaluation.harness.tasks import SEED, load

CLOSE = 1e-4
TYPES = list(harness_tasks.TASKS)


@pytest.fixture(scope="module")
def policy():
    import torch

    from stages.models.chain import Chain, Policy
    from stages.models.sources import toy

    torch.set_num_threads(1)
    model, tokenizer = toy()
    return Policy(model.float().eval(), tokenizer, Chain(base={}), "cpu")


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """The current folder has a task of each type."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(harness_tasks.write(tmp_path_factory.mktemp("tasks")))
        load.cache_clear()
        yield
    load.cache_clear()


@pytest.fixture(scope="module")
def reference(policy):
    """reference(path, ...) -> lm_eval's results on the model by its own HFLM."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    def run(path, num_fewshot=-1, model=policy, **choices):
        tasks = load(path, num_fewshot).tasks
        for task in tasks.values():
            task.set_fewshot_seed(SEED)
        lm = HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=4)
        return evaluate(lm, {"tasks": tasks}, bootstrap_iters=0, **choices)

    return run


def measured(policy, path, micro_batch=0, **params):
    params = HarnessParams(tasks=path, **params)
    items = Harness().run(policy, list(rows(load(path))), params, micro_batch)
    return items, Harness().details(items, params)


def responses(samples):
    """What the model answered to every request of every item."""
    return [[one for response in sample["resps"] for one in response] for sample in samples]


def likelihood(response):
    """The log-likelihood in a response; 0 for a text."""
    return 0.0 if isinstance(response, str) else response[0] if isinstance(response, tuple) else response


def shape(response):
    """What else is in it: a text, or whether a continuation is the greedy one."""
    return response if isinstance(response, str) else response[1:] if isinstance(response, tuple) else ()


def check_equal(policy, samples, path, num_fewshot=-1, chat_template=False, micro_batch=0):
    tasks = load(path, num_fewshot)
    ours = ask(policy, tasks, list(rows(tasks)), chat_template, micro_batch)
    ours = [one.samples["none"] for _, one in sorted(ours.items())]
    for mine, theirs in zip(responses(ours), responses(samples), strict=True):
        assert [shape(one) for one in mine] == [shape(one) for one in theirs]
        assert list(map(likelihood, mine)) == pytest.approx(list(map(likelihood, theirs)), abs=CLOSE)
    assert [one["arguments"] for one in ours] == [one["arguments"] for one in samples]


@pytest.mark.parametrize("micro_batch", [0, 1, 3])
@pytest.mark.parametrize("name", TYPES)
def test_every_answer_is_that_of_hflm(policy, reference, name, micro_batch):
    path = f"tasks/{name}.yaml"
    samples = reference(path)["samples"][f"mine_{name}"]
    check_equal(policy, samples, path, micro_batch=micro_batch)


@pytest.mark.parametrize(
    ("name", "metric"),
    [("choice", "acc"), ("choice", "acc_norm"), ("last", "acc"), ("last", "perplexity"), ("pages", "word_perplexity"),
     ("pages", "byte_perplexity"), ("pages", "bits_per_byte"), ("write", "exact_match")],
)  # fmt: skip
def test_the_suites_number_is_that_of_the_harness(policy, reference, name, metric):
    from stages.evaluation.results import SuiteResult, summarise

    path = f"tasks/{name}.yaml"
    items, details = measured(policy, path, metric=metric)
    called, higher = Harness().metric(HarnessParams(tasks=path, metric=metric))
    found = summarise(SuiteResult("mine", "harness", called, higher, items, details))
    expected = reference(path)["results"][f"mine_{name}"]
    assert found["value"] == pytest.approx(expected[f"{metric},none"], rel=CLOSE)
    assert higher == (metric in ("acc", "acc_norm", "exact_match"))
    for other, number in details["metrics"].items():
        assert other != metric and number["value"] == pytest.approx(expected[f"{other},none"], rel=CLOSE)


@pytest.mark.parametrize("chat_template", [False, True])
def test_examples_and_the_chat_template_are_put_before_as_there(policy, reference, chat_template):
    lm_choices = {"apply_chat_template": chat_template, "fewshot_as_multiturn": chat_template}
    samples = reference("tasks/choice.yaml", 2, **lm_choices)["samples"]["mine_choice"]
    assert samples[0]["arguments"][0][0].count("Question:") == 3
    assert ("<|im_start|>" in samples[0]["arguments"][0][0]) == chat_template
    check_equal(policy, samples, "tasks/choice.yaml", 2, chat_template)


@pytest.mark.parametrize("name", TYPES)
def test_what_is_too_long_is_cut_as_there(policy, reference, name, monkeypatch):
    monkeypatch.setattr(policy.model.config, "max_position_embeddings", 16)
    path = f"tasks/{name}.yaml"
    samples = reference(path)["samples"][f"mine_{name}"]
    check_equal(policy, samples, path)
    items, details = measured(policy, path)
    cut = [item for item in items if item.values["cut"]]
    assert bool(cut) == (name != "pages"), "a long text is read window after window, none of it is lost"
    assert any("lost their beginning" in remark for remark in details["remarks"]) == bool(cut)


@pytest.mark.parametrize("middle", [slice(4, 9), slice(7, 8)])
def test_an_answer_ends_at_a_stop_text_wherever_its_tokens_begin(policy, reference, middle):
    """A stop text that is a piece of what the model writes: the answer ends before it, and counts as right."""
    (task,) = load("tasks/write.yaml", -1).tasks.values()
    free = [sample["resps"][0][0] for sample in reference("tasks/write.yaml")["samples"]["mine_write"]]
    stop = free[0][middle]
    task.config.generation_kwargs["until"] = [stop]
    try:
        samples = reference("tasks/write.yaml")["samples"]["mine_write"]
        check_equal(policy, samples, "tasks/write.yaml")
        assert samples[0]["resps"][0][0] == free[0].split(stop)[0] != free[0]
    finally:
        load.cache_clear()


def test_answering_stops_once_the_stop_text_is_there(policy, monkeypatch):
    from stages.evaluation.harness import model as harness_model
    from stages.evaluation.harness.model import PolicyLM

    written, rollout = [], harness_model.rollout
    monkeypatch.setattr(harness_model, "rollout", lambda *given: written.extend(found := rollout(*given)) or found)
    (answer,) = PolicyLM(policy)._written(["May I sell it?"], {"until": [], "max_gen_toks": 40})
    stop = answer[10:13]
    (short,) = PolicyLM(policy)._written(["May I sell it?"], {"until": [stop], "max_gen_toks": 40})
    assert short == answer.split(stop)[0]
    assert len(written[0].ids) == 40 and len(written[1].ids) < 20


def test_equal_contexts_are_read_once(policy, monkeypatch):
    from stages.evaluation.harness.model import PolicyLM

    model = PolicyLM(policy)
    pairs = [(context, [5] * (1 + k % 3)) for k in range(6) for context in ([1, 2, 3], [4])]
    groups = model._groups(pairs)
    assert sorted(map(sorted, groups)) == [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11]]
    many = model._groups([([1], [5] * 300)] * 10)
    assert max(map(len, many)) == 3, "not more at once than fit a pass, however many have the same context"


def test_sampled_answers_differ_from_one_repeat_to_the_next(policy):
    from stages.evaluation.harness.model import PolicyLM

    settings = {"until": [], "max_gen_toks": 8, "do_sample": True, "temperature": 1.0}
    answers = PolicyLM(policy)._written(["May I sell it?"] * 4, settings)
    assert len(set(answers)) == 4 and answers == PolicyLM(policy)._written(["May I sell it?"] * 4, settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_beams": 4}, "generation_kwargs.num_beams is not supported"), ({"max_gen_toks": 2048}, "max_gen_toks=2048")],
)
def test_what_cannot_be_written_so_is_refused(policy, settings, message):
    from pipeline.errors import DataError
    from stages.evaluation.harness.model import PolicyLM

    with pytest.raises(DataError, match=message):
        PolicyLM(policy)._written(["May I?"], settings)


@pytest.mark.parametrize("method", [None, "qlora"])
@pytest.mark.parametrize("name", ["choice", "write"])
def test_an_adapter_on_a_plain_base_and_on_one_of_4_bits(policy, reference, bench, sft, name, method):
    """The loaded policy is what is asked, whatever it is made of: HFLM gets the same one."""
    from stages.models.chain import load_policy

    lineage, path = dict(bench.made), f"tasks/{name}.yaml"
    made = load_policy(sft.artifact, lineage, device="cpu", method=method, cache=bench.root / "cache")
    samples = reference(path, model=made)["samples"][f"mine_{name}"]
    check_equal(made, samples, path)
    assert responses(samples) != responses(reference(path)["samples"][f"mine_{name}"])
