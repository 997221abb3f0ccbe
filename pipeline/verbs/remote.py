"""`journeyman push` and `journeyman pull`: artifacts to the mirror at `store.remote`, and from there."""

import argparse
from typing import TYPE_CHECKING, Any

from pipeline.display import Screen
from pipeline.errors import ConfigError
from pipeline.planned import Planned, plan_of, remote_of, require_stage, store_of

if TYPE_CHECKING:
    from pipeline.remote import Remote
    from pipeline.store import Store, Stored


def push(options: argparse.Namespace, screen: Screen) -> tuple[int, Any]:
    """What is built of an experiment, or of some stages and all that they are made from."""
    from pipeline.node import above
    from pipeline.remote import mebibytes, push_all

    planned = plan_of(options, options.overrides)
    loaded, store, plan = planned
    remote = _required(remote_of(loaded.experiment))
    for name in options.names:
        require_stage(name, plan)
    wanted = {up for name in options.names or plan.nodes for up in above(name, plan.nodes)}
    missing = [name for name in options.names if plan.nodes[name].stored is None]
    if missing:
        raise ConfigError(f"{', '.join(missing)}: not built yet with this configuration; `journeyman run` builds it")
    found = [node.stored for node in plan.nodes.values() if node.name in wanted and node.stored]
    there = {stored.id for stored in found if remote.holds(store, stored)}
    screen.say(f"{store.root} -> {remote.url}")
    screen.rows([("there" if one.id in there else "push", one.stage, one.id, mebibytes(one)) for one in found])
    todo = [one for one in found if options.check or one.id not in there]
    if options.dry_run:
        screen.say("nothing was sent; without --dry-run it is")
    else:
        push_all(remote, store, todo, screen.say, options.check)
    return 0, {**_document(remote, todo, options), "there": sorted(there)}


def pull(options: argparse.Namespace, screen: Screen) -> tuple[int, Any]:
    """What the remote has of an experiment; or of an id, with all that it was made from."""
    from pipeline.remote import fetch, mebibytes

    store, remote, found = _of_id(options) if options.names else _of_plan(plan_of(options, options.overrides))
    todo = [stored for stored in found if not stored.path.is_dir()]
    screen.say(f"{remote.url} -> {store.root}")
    screen.rows([("here" if one.path.is_dir() else "pull", one.stage, one.id, mebibytes(one)) for one in found])
    if options.dry_run:
        screen.say("nothing was fetched; without --dry-run it is")
    else:
        store.prepare()
        for stored in todo:
            fetch(remote, store, stored, screen.say)
    return 0, _document(remote, todo, options)


def _document(remote: "Remote", todo: "list[Stored]", options: argparse.Namespace) -> dict[str, Any]:
    artifacts = [{"stage": one.stage, "kind": one.kind, **one.reference()} for one in todo]
    return {"remote": remote.url, "artifacts": artifacts, "dry_run": options.dry_run}


def _required(remote: "Remote | None") -> "Remote":
    if remote is None:
        raise ConfigError("no remote is set: give store.remote=s3://BUCKET/PREFIX, here or in the experiment")
    return remote


def _of_plan(planned: Planned) -> "tuple[Store, Remote, list[Stored]]":
    _, store, plan = planned
    return store, _required(plan.remote), [node.stored for node in plan.nodes.values() if node.stored]


def _of_id(options: argparse.Namespace) -> "tuple[Store, Remote, list[Stored]]":
    """The artifact of an id or its beginning, behind all that it was made from."""
    from pipeline.remote import open_remote

    store, id = store_of(options), options.names[0]
    remote = open_remote(_url(options))
    kinds = remote.kinds()
    known = [one for one in kinds if one.startswith(id)]
    if len(known) != 1:
        raise ConfigError(f"{remote.url} has {len(known) or 'no'} artifacts whose id begins with {id!r}")
    top = remote.current(store, kinds[known[0]], known[0])
    if top is None:
        raise ConfigError(f"{remote.url} has no whole artifact {known[0]} yet")
    found = [top]
    for stored in found:  # grows while it is read
        for item in stored.manifest["inputs"].values():
            if item["id"] in kinds and item["id"] not in [one.id for one in found]:
                found.append(remote.attempt(store, kinds[item["id"]], item["id"], item["attempt"]))
    return store, remote, found[::-1]


def _url(options: argparse.Namespace) -> str:
    from pipeline.config.compose import store_config
    from pipeline.config.search import config_folders

    url = store_config(options.overrides, config_folders(options.config_dir)).remote
    if url is None:
        raise ConfigError("no remote is set: give store.remote=s3://BUCKET/PREFIX, or an experiment that has one")
    return str(url)
