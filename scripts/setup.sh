#!/usr/bin/env bash
# Make .venv from requirements.lock, from nothing. Called by the Makefile: scripts/setup.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1

stop() { echo "setup: $*" >&2; exit 2; }

command -v "$python" >/dev/null || stop "Python 3.11 or newer is needed; name it with PYTHON=/path/to/python3.11"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    stop "$python is $("$python" --version 2>&1); 3.11 or newer is needed: make setup PYTHON=/path/to/python3.11"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    stop "$python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"

pinned() { grep -iE "^$1==" requirements.lock; }
# pip compiles byte code on one core; compileall below does it on all, and leaves out what is never imported.
install() { .venv/bin/python -m pip install -qq --disable-pip-version-check --no-compile "$@"; }

begin=$SECONDS
echo "setup: installing $(grep -c == requirements.lock) packages into .venv, which takes a minute or two"
rm -rf .venv
"$python" -m venv .venv
install --no-deps "$(pinned pip)" "$(pinned setuptools)"
install --no-deps --no-build-isolation -r requirements.lock
# Only where torch's own wheel asks for more (its CUDA build does): exactly what that wheel pins.
install "$(pinned torch)"
# Some packages carry templates that are not Python: those fail here and are of no use anyway. What only tests and extras
# import is compiled when they first do.
rare='moto|mlflow|databricks|nltk|pip|ray|sqlalchemy|statsmodels'
.venv/bin/python -m compileall -q -j 0 -x "/(transformers/models/(?!auto|llama)|tests?|testing|site-packages/($rare))/" .venv/lib >/dev/null || true
echo "setup: done in $((SECONDS - begin)) s"
