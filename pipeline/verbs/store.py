"""`journeyman store fsck`: is what the store holds what was published?"""

import argparse
from typing import Any

from pipeline.display import Screen
from pipeline.errors import ConfigError
from pipeline.planned import store_of


def store(options: argparse.Namespace, screen: Screen) -> tuple[int, Any]:
    """Exit code 5 where something is damaged and was not repaired."""
    from pipeline.fsck import fsck

    if options.names != ["fsck"]:
        raise ConfigError("store fsck [--repair] [store.root=FOLDER]")
    found = fsck(store_of(options), options.repair)
    for finding in found.findings:
        end = f"; {finding.repaired}" if finding.repaired else ""
        screen.say(f"  {finding.level}: {finding.code}: {finding.place}: {finding.what}{end}")
    screen.say(f"{found.attempts} attempts, {found.files} files, {found.bytes / 2**20:.1f} MiB hashed")
    if any(not finding.repaired for finding in found.findings) and not options.repair:
        screen.say("nothing was changed; --repair mends what needs no building")
    screen.say("damaged" if found.damaged else "clean")
    return 5 if found.damaged else 0, found.json()
