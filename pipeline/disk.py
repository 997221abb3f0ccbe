"""What the file system below the store says: that it is full, that it may not be written, that it is a network's."""

import errno
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)


def unwritable(error: OSError, root: Path) -> str:
    """What a failed write means for the user."""
    root, file = root.absolute(), Path(error.filename or root).absolute()
    if error.errno in FULL:
        free = shutil.disk_usage(_existing(root)).free >> 20
        return (
            f"the disk is full: {file} could not be written ({free} MiB free below {root}). Nothing half-made was "
            f"published. Free some space (`journeyman gc` lists what can go) and give the same command again."
        )
    if root != file and root not in file.parents and file not in root.parents:
        return f"{file}: {error.strerror or error}"
    return (
        f"the store {root} cannot be written: {error.strerror or error} ({file}). "
        f"Choose another folder with store.root=FOLDER or JOURNEYMAN_STORE."
    )


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo."""

    place: Path
    kind: str  # nfs4, cifs, ext4 ...
    options: frozenset[str]


NETWORK = {"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "gpfs", "beegfs", "fuse.glusterfs"}
ALONE = {"9p", "afs", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.goofys"}  # no shared locks
LOCAL_LOCKS = {"nolock", "nobrl", "localflock", "local_lock=flock", "local_lock=all"}  # mounted without shared locks


def mounts(text: str | None = None) -> list[Mount]:
    """What is mounted here; `text` has the form of /proc/self/mountinfo. Empty where the system does not say."""
    if text is None:
        table = Path("/proc/self/mountinfo")
        text = table.read_text() if table.exists() else ""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        place, options = before.split()[4:6]
        kind, _, more = [*after.split(), "", ""][:3]
        plain = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), place)
        found.append(Mount(Path(plain), kind, frozenset(f"{options},{more}".split(","))))
    return found


def mount_of(path: Path, known: list[Mount]) -> Mount | None:
    """The mount that holds `path`: of those above it the innermost, of several in one place the last."""
    resolved = path.resolve()
    able = [mount for mount in known if mount.place == resolved or mount.place in resolved.parents]
    return max(reversed(able), key=lambda mount: len(mount.place.parts), default=None)


def shared_warning(path: Path, known: list[Mount]) -> str | None:
    """What a person must know of a store on a network file system; None on a local one."""
    mount = mount_of(path, known)
    if mount is None or mount.kind not in NETWORK | ALONE:
        return None
    if mount.kind in ALONE or mount.options & LOCAL_LOCKS:
        return (
            f"warning: {path} is on {mount.kind} ({mount.place}), whose locks hold on this host alone. Never run on "
            "this store from two hosts at a time: both would build the same artifact in the same folder."
        )
    return (
        f"warning: {path} is on {mount.kind} ({mount.place}), a network file system. Two hosts share its locks only "
        "if its server and every host's mount support flock, which cannot be seen from here (docs/store.md)."
    )
