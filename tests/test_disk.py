"""What the disk says: messages for a store that cannot be written, and network file systems."""

import errno
from pathlib import Path

import pytest

from pipeline.disk import mount_of, mounts, shared_warning, unwritable


def test_messages_for_a_full_disk_a_forbidden_store_and_another_file(tmp_path):
    assert "disk is full" in unwritable(OSError(errno.ENOSPC, "No space left", str(tmp_path / "x")), tmp_path)
    assert "JOURNEYMAN_STORE" in unwritable(OSError(errno.EROFS, "Read-only", str(tmp_path / "x")), tmp_path)
    assert unwritable(OSError(errno.EACCES, "Denied", "/etc/x"), tmp_path) == "/etc/x: Denied"


TABLE = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:41 / /srv rw,noatime - nfs4 server:/export rw,vers=4.2,local_lock=none
41 40 0:42 / /srv/old rw - nfs old:/export rw,vers=3,nolock,local_lock=all
42 22 0:43 / /mnt/my\\040share rw - cifs //box/share rw,vers=3.1.1
43 22 0:44 / /home/me/far rw - fuse.sshfs me@far: rw
44 22 0:45 / /fast rw - xfs /dev/nvme0n1 rw
45 22 0:46 / /fast rw - lustre mds:/work rw,flock
"""


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/srv/store", "nfs4 (/srv), a network file system"),
        ("/srv/old/store", "nfs (/srv/old), whose locks hold on this host alone"),
        ("/mnt/my share", "cifs (/mnt/my share), a network file system"),
        ("/home/me/far/a/b", "fuse.sshfs (/home/me/far), whose locks hold on this host alone"),
        ("/fast/store", "lustre (/fast), a network file system"),  # the last one mounted there
    ],
)
def test_a_network_file_system_is_said_aloud(path, says):
    assert says in shared_warning(Path(path), mounts(TABLE))


@pytest.mark.parametrize("path", ["/home/me/store", "/srv2", "/"])
def test_a_local_file_system_is_not(path):
    assert shared_warning(Path(path), mounts(TABLE)) is None


def test_the_table_of_this_machine_is_read():
    found = mount_of(Path(__file__), mounts())
    assert found is not None and found.kind and found.options & {"rw", "ro"}
    assert mounts("") == [] and shared_warning(Path("/"), []) is None
