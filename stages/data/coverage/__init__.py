"""Coverage: which tasks, harms, edge cases and topics a data set holds, which are missing, and what to collect next.

`survey.coverage` looks; `config.CoverageConfig` holds the targets; docs/coverage.md explains each finding and table.
"""
