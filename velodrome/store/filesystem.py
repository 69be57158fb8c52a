"""Whether a path lies on a network file system, where SQLite's locks and shared memory can't be trusted."""

from __future__ import annotations

import os
import re
from pathlib import Path

from velodrome.errors import StoreError

OVERRIDE = "VELODROME_ALLOW_NETWORK_FS"
_MOUNTS = Path("/proc/self/mountinfo")
_REMOTE = frozenset({
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "drvfs", "gfs", "gfs2", "glusterfs", "gpfs", "lustre",
    "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf",
    "vmhgfs", "wekafs",
})
_REMOTE_FUSE = frozenset({
    "blobfuse", "blobfuse2", "ceph", "ceph-fuse", "cephfs", "curlftpfs", "davfs", "davfs2", "gcsfuse", "geesefs",
    "glusterfs", "goofys", "google-drive-ocamlfuse", "hdfs", "hf-mount", "juicefs", "mount-s3", "mountpoint-s3",
    "moosefs", "mfs", "rclone", "s3fs", "seaweedfs", "smbnetfs", "sshfs", "vmhgfs-fuse",
})


def remote_kind(path: Path, mounts: str | None = None) -> str:
    """The kind of network file system that a path lies on, such as ``"nfs4"``; ``""`` for a local one.

    Args:
        path: A file or folder; it need not exist.
        mounts: Text in the format of ``/proc/self/mountinfo``; read from there where None. Without it (not Linux)
            every path counts as local.
    """
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return ""
    kind = _kind_at(os.path.realpath(path), mounts)
    if kind in _REMOTE or (kind.startswith("fuse.") and kind.removeprefix("fuse.").lower() in _REMOTE_FUSE):
        return kind
    return ""


def check_local(path: Path, mounts: str | None = None) -> None:
    """Refuses a network file system, unless ``VELODROME_ALLOW_NETWORK_FS`` is 1.

    Raises:
        StoreError: If the path lies on one.
    """
    kind = "" if os.environ.get(OVERRIDE) == "1" else remote_kind(path, mounts)
    if kind:
        raise StoreError(
            "The store would lie on a network file system, where SQLite can lose or damage data",
            given=f"{path} (on {kind})", allowed="a local disk",
            hint=f"name a file on a local disk with --store; or set {OVERRIDE}=1 where only this machine uses the file",
        )


def _kind_at(path: str, mounts: str) -> str:
    """The type of the file system that is mounted at the nearest folder above; of several there, the last one."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields, _, source = line.partition(" - ")
        columns = fields.split(" ")
        if len(columns) < 5 or not source:
            continue
        folder = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), columns[4])
        inside = path == folder or path.startswith(folder.rstrip("/") + "/")
        if inside and len(folder) >= len(best):
            best, kind = folder, source.split(" ", 1)[0]
    return kind
