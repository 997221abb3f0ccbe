"""lm-evaluation-harness by its own `HFLM` and by this project, on the same local items and the same model.

Four types of task over held-out items of the experiment `legal`, each run three times: by `HFLM`, by the measurement
`harness`, and by the native measurement that asks the same (choice, perplexity, generate) with the same prompts.
Results go to benchmarks/harness_agreement.json: numbers of each, and the largest difference of a log-likelihood.
"""

import argparse
import copy
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import yaml
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from stages.data.builders import find
from stages.evaluation.choice import ChoiceParams, compared
from stages.evaluation.generate import Generate, GenerateParams
from stages.evaluation.harness.asking import ask
from stages.evaluation.harness.items import rows as rows_of
from stages.evaluation.harness.scores import metrics
from stages.evaluation.harness.tasks import SEED, load, quiet
from stages.evaluation.perplexity import Perplexity, PerplexityParams
from stages.models.chain import Chain, Policy, base_model, load_tokenizer

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("lm_eval", "torch", "transformers", "tokenizers")
NEW_TOKENS = 24
PLAIN = "{{ messages[0]['content'] }}"  # a chat template that adds nothing: prompts of the native measurements as texts

Row = dict[str, Any]
Native = Callable[[Policy, list[Row]], tuple[dict[str, float], list[Any]]]


@dataclass
class Case:
    """One type of task: the harness's file of it, its items, and what the native measurement makes of them.

    `native` returns numbers by the harness's names, and what it has of every item: log-likelihoods or a text.
    """

    type: str
    task: dict[str, Any]
    items: list[Row]
    native: Native
    chat_template: bool = False


def spread(rows: list[Row], count: int) -> list[Row]:
    return rows[:: max(1, len(rows) // count)][:count]


def built(name: str) -> list[Row]:
    found = find(name)
    return list(found.build(found.options(), 42))


def cases(count: int) -> Iterator[Case]:
    """`count` items of each type."""
    choices = [
        {"question": f"{row['prompt']}\nAnswer:", "choices": [f" {c}" for c in row["choices"]], "answer": row["answer"]}
        for row in spread([*built("legal_heldout_category"), *built("legal_heldout_conditions")], count)
    ]
    yield Case("multiple_choice", {
        "doc_to_text": "question", "doc_to_choice": "choices", "doc_to_target": "answer", "target_delimiter": "",
        "metric_list": [
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
            {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
        ],
    }, choices, native_choice)  # fmt: skip
    texts = spread(built("general_heldout_text"), count)
    ends = [dict(zip(("beginning", "last"), row["text"].rsplit(" ", 1), strict=True)) for row in texts]
    yield Case("loglikelihood", {
        "doc_to_text": "beginning", "doc_to_target": "{{' ' + last}}",
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        ],
    }, ends, native_last)  # fmt: skip
    pages = [{"page": row["text"]} for row in spread([*texts, *built("legal_heldout_text")], count)]
    yield Case("loglikelihood_rolling", {
        "doc_to_text": "", "doc_to_target": "page",
        "metric_list": [
            {"metric": "word_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False},
            {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False},
        ],
    }, pages, native_pages)  # fmt: skip
    checked = [row for row in built("general_heldout_checks") if row["check"]["type"] == "numeric"]
    asked = [{"question": row["prompt"], "answer": str(row["check"]["answer"])} for row in checked]
    yield Case("generate_until", {
        "doc_to_text": "question", "doc_to_target": "answer",
        "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": NEW_TOKENS},
        "filter_list": [{"name": "last_number", "filter": [
            {"function": "regex", "regex_pattern": r"(-?\d+(?:[.,]\d+)*)", "group_select": -1},
            {"function": "take_first"},
        ]}],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }, asked, native_written, chat_template=True)  # fmt: skip


# -- the native measurements ----------------------------------------------------------------------------------------
def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def plain(policy: Policy) -> Policy:
    """The policy with prompts as texts, as the harness gives them to a model without its chat template."""
    tokenizer = copy.deepcopy(policy.tokenizer)
    tokenizer.chat_template = PLAIN
    return replace(policy, tokenizer=tokenizer)


def native_choice(policy: Policy, items: list[Row]) -> tuple[dict[str, float], list[Any]]:
    rows = [{**item, "id": str(k), "prompt": user(item["question"])} for k, item in enumerate(items)]
    numbers = {}
    for name, normalise in (("acc_norm", "bytes"), ("acc", "none")):
        values = compared(plain(policy), rows, ChoiceParams(normalise=normalise, end_of_turn=False), 0)
        right = [own.index(max(own)) == item["answer"] for own, item in zip(values, items, strict=True)]
        numbers[name] = sum(right) / len(right)
    return numbers, values


def native_last(policy: Policy, items: list[Row]) -> tuple[dict[str, float], list[Any]]:
    """The last word as one of two choices: its log-likelihood is what counts."""
    rows = [
        {"id": str(k), "prompt": user(item["beginning"]), "choices": [f" {item['last']}", " otherwise"], "answer": 0}
        for k, item in enumerate(items)
    ]
    values = [own[:1] for own in compared(plain(policy), rows, ChoiceParams(end_of_turn=False), 0)]
    mean = torch.tensor(values, dtype=torch.float64).mean()
    return {"perplexity": float((-mean).exp())}, values


def native_pages(policy: Policy, items: list[Row]) -> tuple[dict[str, float], list[Any]]:
    rows, params = (
        [{"id": str(k), "text": item["page"]} for k, item in enumerate(items)],
        PerplexityParams(max_length=10_000),
    )
    found = Perplexity().run(policy, rows, params, 0)
    bits = Perplexity().details(found, params)["metrics"]["bits_per_byte"]["value"]
    return {"bits_per_byte": bits}, [[-item.score * item.weight] for item in found]


def native_written(policy: Policy, items: list[Row]) -> tuple[dict[str, float], list[Any]]:
    rows = [
        {"id": str(k), "prompt": user(item["question"]), "check": {"type": "numeric", "answer": float(item["answer"])}}
        for k, item in enumerate(items)
    ]
    found = Generate().run(policy, rows, GenerateParams(NEW_TOKENS), 0)
    return {"exact_match": sum(item.score for item in found) / len(found)}, [[item.answer] for item in found]


# -- comparing ------------------------------------------------------------------------------------------------------
def compare(policy: Policy, case: Case) -> dict[str, Any]:
    """The numbers of all three, and how far their log-likelihoods are apart."""
    path = write(case)
    tasks = load(path)
    (task,) = tasks.tasks.values()
    theirs, seconds = timed(lambda: by_hflm(policy, task, case))
    exact = theirs if case.type == "generate_until" else by_hflm(policy, task, case, softmax_dtype="float64")
    answered, own_seconds = timed(lambda: ask(policy, tasks, list(rows_of(tasks)), case.chat_template, 0))
    (native, found), native_seconds = timed(lambda: case.native(policy, case.items))
    answers = {
        "hflm": [responses(sample) for sample in theirs["samples"][task.task_name]],
        "hflm, softmax in float64": [responses(sample) for sample in exact["samples"][task.task_name]],
        "harness": [responses(next(iter(one.samples.values()))) for _, one in sorted(answered.items())],
        "native": found,
    }
    numbers = {
        metric.name: {
            "hflm": theirs["results"][task.task_name][f"{metric.name},{metric.filter}"],
            "harness": float(task.aggregation()[metric.name](
                [one.samples[metric.filter][metric.name] for one in answered.values()]
            )),
            **({"native": native[metric.name]} if metric.name in native else {}),
        }
        for metric in metrics(task)
    }  # fmt: skip
    return {
        "items": len(case.items), "requests": sum(map(len, answers["hflm"])), "numbers": numbers,
        "apart": {f"{a} | {b}": difference(answers[a], answers[b]) for a, b in PAIRS},
        "greedy_equal": list(map(flags, answers["harness"])) == list(map(flags, answers["hflm"])),
        "seconds": {"hflm": seconds, "harness": own_seconds, "native": native_seconds},
    }  # fmt: skip


PAIRS = [
    (reference, ours) for reference in ("hflm, softmax in float64", "hflm") for ours in ("harness", "native")
] + [("hflm, softmax in float64", "hflm")]  # fmt: skip


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return run(), round(time.perf_counter() - start, 2)


def by_hflm(policy: Policy, task: Any, case: Case, **options: Any) -> dict[str, Any]:
    """The harness's results on its own HFLM around the same weights."""
    task.set_fewshot_seed(SEED)
    with quiet():
        model = HFLM(pretrained=policy.model, tokenizer=policy.tokenizer, batch_size=8, **options)
        tasks = {"tasks": {task.task_name: task}}
        return evaluate(model, tasks, bootstrap_iters=0, apply_chat_template=case.chat_template)


def write(case: Case) -> str:
    """The case as a task file and items in the current folder."""
    file = Path(f"{case.type}.jsonl")
    file.write_text("".join(json.dumps(item) + "\n" for item in case.items))
    task = {
        "task": f"agreement_{case.type}", "dataset_path": "json", "output_type": case.type, "test_split": "test",
        "dataset_kwargs": {"data_files": {"test": file.name}}, **case.task,
    }  # fmt: skip
    Path(f"{case.type}.yaml").write_text(yaml.safe_dump(task, sort_keys=False))
    return f"./{case.type}.yaml"


def responses(sample: Row) -> list[Any]:
    return list(chain.from_iterable(sample["resps"]))


def flags(found: list[Any]) -> list[bool]:
    """Whether each continuation is the greedy one."""
    return [one[1] for one in found if isinstance(one, tuple)]


def difference(expected: list[list[Any]], found: list[list[Any]]) -> float | str:
    """The largest difference of two log-likelihoods; of texts how many are equal, but for white space around them."""
    pairs = [pair for a, b in zip(expected, found, strict=True) for pair in zip(a, b, strict=True)]
    if isinstance(pairs[0][0], str):
        return f"{sum(a.strip() == b.strip() for a, b in pairs)} of {len(pairs)} texts equal"
    likely = [[one[0] if isinstance(one, tuple) else one for one in pair] for pair in pairs]
    return max(abs(a - b) for a, b in likely)


def opened(folder: Path) -> Policy:
    """The model in the folder, in float32."""
    return Policy(base_model(folder, "cpu").float(), load_tokenizer(folder), Chain(base={}), "cpu")


def machine() -> dict[str, Any]:
    names = [
        line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path, help="folder with weights, as `model` of a base artifact")
    parser.add_argument("--items", type=int, default=24, help="of each type of task")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "harness_agreement.json")
    asked = parser.parse_args()
    policy, out = opened(asked.model.resolve()), asked.out.resolve()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for case in cases(asked.items):
            found[case.type] = compare(policy, case)
            print(case.type, json.dumps(found[case.type]["apart"]), file=sys.stderr, flush=True)
    known = {"date": time.strftime("%Y-%m-%d"), "hardware": machine(), "dtype": "float32"}
    packages = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    size = {"parameters": policy.model.num_parameters(), "type": policy.model.config.model_type}
    out.write_text(json.dumps({**known, "packages": packages, "model": size, "types": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
