"""How many CPUs the control group of this process may use: containers are limited so, not by affinity."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_ROOT = Path("/")


class _Mount(NamedTuple):
    point: PurePosixPath
    group: PurePosixPath
    """Control group that is seen at `point`."""
    version: int


def cpu_quota(root: Path = _ROOT) -> int | None:
    """Return the CPUs that the quotas of the control groups amount to, rounded up; None without a quota.

    Those of the group that the process is in count, and of all that this one is part of, as far as they can be seen.
    `root` is where /proc and the mounted control groups are looked for.
    """
    quotas = []
    try:
        groups = _groups((root / "proc/self/cgroup").read_text())
        mounts = _mounts((root / "proc/self/mountinfo").read_text())
    except (OSError, ValueError):  # none, or not as they are known
        return None
    for mount in mounts:
        if mount.version not in groups:
            continue
        top = root / mount.point.relative_to("/")
        folder = top / _below(groups[mount.version], mount.group)
        while True:
            quotas.append(_quota(folder, mount.version))
            if folder == top:
                break
            folder = folder.parent
    return max(1, math.ceil(min(quotas))) if any(quota < math.inf for quota in quotas) else None


def _groups(text: str) -> dict[int, PurePosixPath]:
    """Group of the process by version, from lines like ``0::/group`` and ``4:cpu,cpuacct:/group``."""
    groups = {}
    for line in text.splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0" and not controllers:
            groups[2] = PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            groups[1] = PurePosixPath(path)
    return groups


def _mounts(text: str) -> list[_Mount]:
    """Where control groups are mounted; see proc_pid_mountinfo(5) for the fields."""
    mounts = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        group, point = map(_unescape, before.split()[3:5])
        kind, _, options = after.split()[:3]
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            mounts.append(_Mount(PurePosixPath(point), PurePosixPath(group), 2 if kind == "cgroup2" else 1))
    return mounts


def _unescape(field: str) -> str:
    """Undo the escapes of white space, which are octal."""
    return field.encode("latin-1", "backslashreplace").decode("unicode_escape")


def _below(group: PurePosixPath, mounted: PurePosixPath) -> PurePosixPath:
    """Path of a group below the mounted one; of a group that is not there, the mounted one itself."""
    if ".." in group.parts or not group.is_relative_to(mounted):
        return PurePosixPath()
    return group.relative_to(mounted)


def _quota(folder: Path, version: int) -> float:
    """CPUs that one group may use: time in each period over its length; inf without a limit."""
    try:
        if version == 2:
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        limit = math.inf if quota == "max" else float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
    return limit if limit > 0 else math.inf
