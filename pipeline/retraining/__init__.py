"""Retraining: is there a reason to train, is the new model good enough, and which model is in use from now on.

`triggers` says what asks for training; `candidate` chooses the model, adds gates against the champion and reads the
verdict; `state` is what was judged last; `summary` writes the outcome for people (Markdown) and for CI (JUnit). The
commands are in `pipeline/verbs/retrain.py`. docs/retraining.md has the whole story.
"""
