"""`make check`'s look at what is installed: every licence is one we accept, and no version has a known weakness.

Licences are read from the metadata of the installed packages, without network. Weaknesses are asked of pip-audit where
that is installed and its service answers; where not, that is said and nothing fails.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS = 8  # for pip-audit's service

# Words of SPDX expressions, of classifiers and of the free text of older packages.
ACCEPTED = re.compile(
    r"(MIT(-0|-CMU)?|Expat|X11|BSD([- ]?[023]-Clause)?|(New|Modified|Simplified|[23]-Clause|Revised) BSD|0BSD|ISC|"
    r"Apache([- ]?2(\.0)?)?|Apache Software|Apache License,? Version 2\.0|ASL 2(\.0)?|"
    r"Python Software Foundation|PSF(-2\.0)?|Python-2\.0|CNRI-Python|"
    r"MPL[- ]?2\.0|Mozilla Public License 2\.0 \(MPL 2\.0\)|Unlicense|The Unlicense \(Unlicense\)|CC0-1\.0|"
    r"CC-BY-4\.0|Zlib|HPND|BSL-1\.0|BlueOak-1\.0\.0|LLVM-exception|OpenSSL-exception|Public Domain|"
    r"Academic Free License \(AFL\))( License)?",
    re.IGNORECASE,
)
EXCEPTIONS = {  # package -> why it may be there although its licence is not in the list above
    "python-stdnum": "LGPL-2.1: used unchanged, as a library of its own",
    "text-unidecode": "Artistic or GPL, at the user's choice: used unchanged, as a library of its own",
    "chardet": "LGPL-2.1: used unchanged, as a library of its own",
    "certifi": "MPL-2.0: used unchanged",
}
PHRASES = {  # of a licence file -> its licence
    "MIT License": "MIT",
    "Permission is hereby granted, free of charge": "MIT",
    "Apache License": "Apache-2.0",
    "Redistribution and use in source and binary forms": "BSD",
}
OWN_TERMS = re.compile(r"nvidia-|cuda-|triton$")  # of a CUDA build of torch: free to use, and never handed on by us


def main() -> int:
    found = {name(one): one for one in distributions() if one.metadata["Name"]}
    refused = {one: terms(found[one]) for one in sorted(found) if not accepted(one, terms(found[one]))}
    for package, licences in refused.items():
        print(f"licence of {package} is not one we accept: {'; '.join(licences) or 'none is named'}")
    print(
        f"licences: {len(found) - len(refused)} of {len(found)} packages accepted, {len(EXCEPTIONS)} exceptions named"
    )
    return 1 if refused or not audited() else 0


def name(one: Distribution) -> str:
    return re.sub(r"[-_.]+", "-", str(one.metadata["Name"])).lower()


def terms(one: Distribution) -> list[str]:
    """The licences that a package names: the SPDX expression, else its classifiers, else the first line of its text."""
    if expression := one.metadata.get("License-Expression"):
        return [expression]
    classifiers = [text for text in one.metadata.get_all("Classifier") or [] if text.startswith("License ::")]
    names = [text.rpartition(" :: ")[2] for text in classifiers if text != "License :: OSI Approved"]
    text = (one.metadata.get("License") or "").strip()
    return names or [line.strip() for line in text.splitlines()[:1] if line.strip()] or read(one)


def read(one: Distribution) -> list[str]:
    """What the first words of a package's licence file call it."""
    for file in one.files or []:
        if re.search(r"(?i)licen[cs]e|copying", file.name) and ".dist-info" in str(file):
            head = " ".join(str(file.read_text()).split())[:600]
            return [name for phrase, name in PHRASES.items() if phrase in head][:1]
    return []


def accepted(package: str, licences: Iterable[str]) -> bool:
    """Whether a person may use it under one of the licences that are joined by OR, and under all others."""
    if package in EXCEPTIONS or OWN_TERMS.match(package):
        return True
    licences = list(licences)
    return bool(licences) and all(fits(one) for one in licences)


def fits(expression: str) -> bool:
    if ACCEPTED.fullmatch(re.sub(r"^The | \((MIT|ISCL|Unlicense)\)$", "", expression.strip())):
        return True
    parts = re.split(r"\s+OR\s+|\s+or\s+", expression.strip("() "))
    if len(parts) > 1:
        return any(fits(part) for part in parts)
    every = re.split(r"\s+AND\s+|\s+WITH\s+|\s*[;,&]\s*|\s+and\s+", expression.strip("() "))
    return len(every) > 1 and all(fits(part) for part in every)


def audited() -> bool:
    """Whether pip-audit found nothing, or could not be asked."""
    program = shutil.which("pip-audit", path=str(Path(sys.executable).parent)) or shutil.which("pip-audit")
    if program is None:
        print("weaknesses: skipped: pip-audit is not installed (`pip install pip-audit` in an environment of its own)")
        return True
    lock = ["--requirement", str(ROOT / "requirements.lock"), "--no-deps", "--disable-pip"]
    command = [program, *lock, "--progress-spinner=off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        print(f"weaknesses: skipped: pip-audit had no answer within {SECONDS} s")
        return True
    if done.returncode and not re.search(r"Found \d+ known", done.stdout + done.stderr):
        print(f"weaknesses: skipped: pip-audit cannot ask its service ({done.stderr.strip().splitlines()[-1][:120]})")
        return True
    print(f"weaknesses: {'none known' if done.returncode == 0 else done.stdout + done.stderr}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
