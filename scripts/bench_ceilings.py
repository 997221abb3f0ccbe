"""What the device can do at most: a large product and a large copy. Writes ceilings.json into a folder.

python scripts/bench_ceilings.py FOLDER
python scripts/bench_ceilings.py FOLDER --device cpu --size 256 --bytes 1000000
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import older_libraries
from bench_machine import environment

ROUNDS, WARM_UP = 20, 3


def seconds(run: Callable[[], Any], device: str) -> float:
    """The median of ROUNDS calls, one by one."""
    import torch

    found = []
    for _ in range(WARM_UP + ROUNDS):
        began = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return statistics.median(found[WARM_UP:])


def product_tflops(device: str, size: int) -> float:
    """Of a bfloat16 product of random matrices; zeros would be faster than anything that trains."""
    import torch

    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, device) / 1e12


def copy_gb_per_s(device: str, size: int) -> float:
    """Bytes read and written."""
    import torch

    source = torch.randint(0, 255, (size,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source), device) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--size", type=int, default=8192, help="rows and columns of the product")
    parser.add_argument("--bytes", type=int, default=8 * 2**30, help="of the copy")
    given = parser.parse_args()
    made = {
        **environment(), "device": given.device, "size": given.size,
        "product_tflops": product_tflops(given.device, given.size),
        "copy_gb_per_s": copy_gb_per_s(given.device, given.bytes), "varlen": older_libraries.varlen_without_switch(),
    }  # fmt: skip
    (given.folder / "ceilings.json").write_text(json.dumps(made, indent=1) + "\n")
    print(json.dumps(made))


if __name__ == "__main__":
    main()
