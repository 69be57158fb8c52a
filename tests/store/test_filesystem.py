from __future__ import annotations

from pathlib import Path

import pytest

from velodrome.store.filesystem import remote_kind

_MOUNTS = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 27 0:40 / /nosuch/home rw,relatime shared:5 master:1 - nfs4 server:/home rw,vers=4.2
31 30 0:41 / /nosuch/home/scratch rw - xfs /dev/sdb rw
32 27 0:42 / /nosuch/a\040b rw - cifs //server/share rw
33 27 0:43 / /nosuch/ssh rw - fuse.sshfs me@host:/ rw
34 27 0:44 / /nosuch/merged rw - fuse.mergerfs a:b rw
35 27 0:45 / /nosuch/twice rw - nfs server:/x rw
36 27 0:46 / /nosuch/twice rw - ext4 /dev/sdc rw
37 27 0:47 / /nosuch/wsl rw - 9p drvfs rw
broken line
"""


@pytest.mark.parametrize(("path", "kind"), [
    ("/nosuch/home/me/r.db", "nfs4"),
    ("/nosuch/home", "nfs4"),
    ("/nosuch/homework/r.db", ""),
    ("/nosuch/home/scratch/r.db", ""),
    ("/nosuch/a b/r.db", "cifs"),
    ("/nosuch/ssh/r.db", "fuse.sshfs"),
    ("/nosuch/merged/r.db", ""),
    ("/nosuch/twice/r.db", ""),
    ("/nosuch/wsl/r.db", "9p"),
    ("/r.db", ""),
])
def test_the_kind_of_the_nearest_mount_counts(path, kind):
    assert remote_kind(Path(path), _MOUNTS) == kind


def test_without_a_list_of_mounts_everything_is_local(monkeypatch, tmp_path):
    monkeypatch.setattr("velodrome.store.filesystem._MOUNTS", tmp_path / "none")
    assert remote_kind(tmp_path) == ""
