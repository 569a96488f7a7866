"""CPU quota of the control group of this process, by which containers are limited."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_ROOT = Path("/")


class _Mount(NamedTuple):
    point: PurePosixPath
    group: PurePosixPath
    """Control group mounted at `point`."""
    version: int


def cpu_quota(root: Path = _ROOT) -> int | None:
    """Return the smallest quota of the process's control group and its visible ancestors, in CPUs rounded up.

    None without a quota. `root` is the directory above /proc and the mounted control groups.
    """
    quotas = []
    try:
        groups = _groups((root / "proc/self/cgroup").read_text())
        mounts = _mounts((root / "proc/self/mountinfo").read_text())
    except (OSError, ValueError):  # no control groups, or an unknown format
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
    """Return the group of the process by version, from lines like ``0::/group`` and ``4:cpu,cpuacct:/group``."""
    groups = {}
    for line in text.splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0" and not controllers:
            groups[2] = PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            groups[1] = PurePosixPath(path)
    return groups


def _mounts(text: str) -> list[_Mount]:
    """Return the mounts of control groups; see proc_pid_mountinfo(5) for the fields."""
    mounts = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        group, point = map(_unescape, before.split()[3:5])
        kind, _, options = after.split()[:3]
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            mounts.append(_Mount(PurePosixPath(point), PurePosixPath(group), 2 if kind == "cgroup2" else 1))
    return mounts


def _unescape(field: str) -> str:
    """Undo the octal escapes of white space."""
    return field.encode("latin-1", "backslashreplace").decode("unicode_escape")


def _below(group: PurePosixPath, mounted: PurePosixPath) -> PurePosixPath:
    """Return the path of a group relative to the mounted one, or the mounted one itself for a group outside."""
    if ".." in group.parts or not group.is_relative_to(mounted):
        return PurePosixPath()
    return group.relative_to(mounted)


def _quota(folder: Path, version: int) -> float:
    """Return the CPUs that one group may use: CPU time per period over the period's length; inf without a limit."""
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
