"""Quotas of control groups, from files like those that Linux shows."""

import pytest

from fastseqloss._core import cgroup

UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
OTHERS = "22 28 0:20 / /proc rw - proc proc rw\n28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"


def legacy(group="/"):
    return (
        f"31 25 0:27 {group} /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
        f"32 25 0:28 {group} /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    )


@pytest.fixture
def machine(tmp_path):
    """Lay out the files of a machine, and say what its quota is."""

    def quota(groups, mounts, files):
        for name, text in {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return cgroup.cpu_quota(tmp_path)

    return quota


@pytest.mark.parametrize(
    ("limit", "cpus"),
    [
        ("max 100000", None),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("400000 200000", 2),
        ("6400000 100000", 64),
        ("nonsense", None),
        ("", None),
        ("100000 0", None),
    ],
)
def test_version_2(machine, limit, cpus):
    """Rounded up, and at least one; what cannot be understood is no limit."""
    assert machine("0::/\n", OTHERS + UNIFIED, {"sys/fs/cgroup/cpu.max": limit + "\n"}) == cpus


def test_the_least_of_all_groups_around_counts(machine):
    root = "sys/fs/cgroup"
    files = {f"{root}/a/cpu.max": "300000 100000", f"{root}/a/b/cpu.max": "max 100000", f"{root}/cpu.max": "max 100000"}
    assert machine("0::/a/b/c\n", UNIFIED, files) == 3
    assert machine("0::/a/b/c\n", UNIFIED, {f"{root}/a/b/c/cpu.max": "100000 100000"}) == 1
    assert machine("0::/other\n", UNIFIED, {}) is None


@pytest.mark.parametrize(
    ("quota", "period", "cpus"), [("-1", "100000", None), ("400000", "100000", 4), ("25000", "50000", 1)]
)
def test_version_1(machine, quota, period, cpus):
    folder = "sys/fs/cgroup/cpu,cpuacct/docker/1f"
    files = {f"{folder}/cpu.cfs_quota_us": quota + "\n", f"{folder}/cpu.cfs_period_us": period + "\n"}
    groups = "9:cpuset:/other\n4:cpu,cpuacct:/docker/1f\n1:name=systemd:/docker/1f\n0::/docker/1f\n"
    assert machine(groups, OTHERS + legacy(), files) == cpus


def test_a_group_mounted_as_the_root(machine):
    """As a container sees it that has no cgroup namespace: its own group, under the path of the host, is on top."""
    folder = "sys/fs/cgroup/cpu,cpuacct"
    files = {f"{folder}/cpu.cfs_quota_us": "300000", f"{folder}/cpu.cfs_period_us": "100000"}
    assert machine("4:cpu,cpuacct:/docker/1f\n", legacy("/docker/1f"), files) == 3
    inner = {f"{folder}/in/{name.rpartition('/')[2]}": text for name, text in files.items()}
    inner[f"{folder}/in/cpu.cfs_quota_us"] = "200000"
    assert machine("4:cpu,cpuacct:/docker/1f/in\n", legacy("/docker/1f"), inner) == 2
    assert machine("4:cpu,cpuacct:/elsewhere\n", legacy("/docker/1f"), {}) == 3


def test_a_group_outside_the_namespace(machine):
    assert machine("0::/../../outer\n", UNIFIED, {"sys/fs/cgroup/cpu.max": "200000 100000"}) == 2


def test_both_versions(machine):
    """A hybrid machine: version 2 without controllers, version 1 with the quota."""
    folder = "sys/fs/cgroup/cpu,cpuacct"
    mounts = legacy() + "33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    files = {f"{folder}/cpu.cfs_quota_us": "500000", f"{folder}/cpu.cfs_period_us": "100000"}
    assert machine("4:cpu,cpuacct:/\n0::/\n", mounts, files) == 5


def test_a_mount_point_with_a_space(machine):
    mounts = r"30 23 0:26 / /sys/control\040groups rw - cgroup2 cgroup2 rw" "\n"
    assert machine("0::/\n", mounts, {"sys/control groups/cpu.max": "200000 100000"}) == 2


@pytest.mark.parametrize(
    ("groups", "mounts"), [("nonsense\n", UNIFIED), ("0::/\n", "nonsense\n"), ("", ""), ("0::/\n", OTHERS)]
)
def test_files_that_are_otherwise(machine, groups, mounts):
    assert machine(groups, mounts, {"sys/fs/cgroup/cpu.max": "200000 100000"}) is None


def test_no_files(tmp_path):
    assert cgroup.cpu_quota(tmp_path) is None


def test_this_machine():
    assert cgroup.cpu_quota() is None or cgroup.cpu_quota() >= 1
