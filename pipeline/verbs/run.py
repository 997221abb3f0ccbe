"""`journeyman run`: build what is not built yet, judge the gates, write the report."""

import argparse

from pipeline.display import Screen
from pipeline.guard import Answer
from pipeline.planned import opened_folds, plan_of


def run(options: argparse.Namespace, screen: Screen) -> Answer:
    """One chain, or a sweep of chains: one for each fold where the folds are left open."""
    from pipeline.sweeps.multirun import all_folds, multirun, run_planned

    if options.multirun:
        return multirun(options, screen)
    planned = plan_of(options, options.overrides)
    return all_folds(options, screen, planned) if opened_folds(planned) else run_planned(options, screen, planned)
