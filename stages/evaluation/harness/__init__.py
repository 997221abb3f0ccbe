"""Tasks of lm-evaluation-harness, run on this project's models.

`files` reads the task files of a user, `tasks` loads those and the harness's own, `items` makes rows of them, `model`
answers the harness's requests, `scores` reads what the harness made of the answers, `measure` is the measurement.
"""
