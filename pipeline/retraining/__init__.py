"""Retraining: is there a reason to train, is the new model good enough, and which model is in use from now on.

`verbs` holds the commands `retrain` and `promote`; `triggers` says what asks for training; `candidate` chooses the
model, adds gates against the champion and reads the verdict; `state` is what was judged last; `summary` writes the
outcome for people (Markdown) and for CI (JUnit). docs/retraining.md has the whole story.
"""
