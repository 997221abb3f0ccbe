"""Task files of lm-evaluation-harness, one of each type, beside the items that they read."""

import json
import random
from pathlib import Path
from textwrap import dedent

TEXT = "the licence allows you to use copy change and share this work keep notice source code program must give"

CHOICE = """
    task: mine_choice
    dataset_path: json
    dataset_kwargs: {data_files: {test: choice.jsonl, train: shown.jsonl}}
    test_split: test
    fewshot_split: train
    output_type: multiple_choice
    doc_to_text: "Question: {{question}}\\nAnswer:"
    doc_to_choice: choices
    doc_to_target: answer
    metric_list:
      - {metric: acc, aggregation: mean, higher_is_better: true}
      - {metric: acc_norm, aggregation: mean, higher_is_better: true}
    metadata: {version: 2.0}
"""
LAST = """
    task: mine_last
    dataset_path: json
    dataset_kwargs: {data_files: {test: last.jsonl}}
    test_split: test
    output_type: loglikelihood
    doc_to_text: "{{beginning}}"
    doc_to_target: "{{' ' + last}}"
    metric_list:
      - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
      - {metric: acc, aggregation: mean, higher_is_better: true}
"""
PAGES = """
    task: mine_pages
    dataset_path: json
    dataset_kwargs: {data_files: {test: pages.jsonl}}
    test_split: test
    output_type: loglikelihood_rolling
    doc_to_text: ""
    doc_to_target: "{{page}}"
    metric_list:
      - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
      - {metric: byte_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
      - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
"""
WRITE = """
    task: mine_write
    dataset_path: json
    dataset_kwargs: {data_files: {test: write.jsonl}}
    test_split: test
    output_type: generate_until
    doc_to_text: question
    doc_to_target: answer
    generation_kwargs: {until: ["\\n", "."], do_sample: false, max_gen_toks: 12}
    metric_list:
      - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
TASKS = {"choice": CHOICE, "last": LAST, "pages": PAGES, "write": WRITE}


def said(seed: int, count: int) -> str:
    return " ".join(random.Random(seed).choices(TEXT.split(), k=count))


def items() -> dict[str, list[dict]]:
    """File -> items, of unequal length."""
    choices = [
        {"question": said(k, 5 + k), "choices": [said(k + 50 * n, 1 + n + k % 3) for n in (1, 2, 3)],
         "answer": k % 3, "level": ["easy", "hard"][k % 2]}
        for k in range(12)
    ]  # fmt: skip
    return {
        "choice": choices[:9],
        "shown": choices[9:],
        "last": [{"beginning": said(k + 300, 4 + 2 * k), "last": said(k + 400, 1)} for k in range(6)],
        "pages": [{"page": said(k + 500, 9 + 8 * k)} for k in range(5)],
        "write": [{"question": said(k + 600, 3 + k), "answer": said(k + 700, 1)} for k in range(6)],
    }


def write(folder: Path, **changed: str) -> Path:
    """The files below the folder: NAME.jsonl, and the tasks as tasks/NAME.yaml. `changed`: other text for a task."""
    (folder / "tasks").mkdir()
    for name, rows in items().items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in {**TASKS, **changed}.items():
        (folder / "tasks" / f"{name}.yaml").write_text(dedent(text))
    return folder
