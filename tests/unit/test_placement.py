"""What a rank finds on its node: quota, affinity, GPUs."""

import os
import platform

import pytest

from mpirun_infer.supervise import placement
from mpirun_infer.supervise.placement import (
    cgroup_quota_cores,
    node_facts,
    usable_cores,
    visible_gpus,
)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def v1(root, quota, period="100000\n"):
    write(root / "cpu" / "cpu.cfs_quota_us", quota)
    write(root / "cpu" / "cpu.cfs_period_us", period)


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000\n", None), ("150000 100000\n", 1.5), ("400000 100000\n", 4.0), ("?", None)],
)
def test_the_quota_of_cgroup_v2(tmp_path, text, cores):
    write(tmp_path / "cpu.max", text)
    assert cgroup_quota_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("quota", "cores"), [("-1\n", None), ("250000\n", 2.5), ("no number\n", None)]
)
def test_the_quota_of_cgroup_v1(tmp_path, quota, cores):
    v1(tmp_path, quota)
    assert cgroup_quota_cores(tmp_path) == cores


def test_version_2_goes_before_version_1(tmp_path):
    v1(tmp_path, "100000\n")
    write(tmp_path / "cpu.max", "300000 100000\n")
    assert cgroup_quota_cores(tmp_path) == 3.0


def test_without_cgroups_there_is_no_quota(tmp_path):
    assert cgroup_quota_cores(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max", (1, 3, 5, 7)), ("150000", (1, 3)), ("10000", (1,)), ("900000", (1, 3, 5, 7))],
)
def test_cores_are_the_mask_cut_to_whole_cores_of_the_quota(tmp_path, monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {7, 5, 3, 1})
    write(tmp_path / "cpu.max", f"{quota} 100000\n")
    assert usable_cores(tmp_path) == cores


def driver(folder, *uuids):
    for number, uuid in enumerate(uuids):
        write(
            folder / f"0000:{number:02x}:00.0" / "information",
            f"Model: \t\t NVIDIA A100\nIRQ:   \t\t 4\nGPU UUID: \t {uuid}\nVideo BIOS: \t 92\n",
        )


def test_gpus_are_the_drivers_uuids_in_the_order_of_the_bus(tmp_path):
    driver(tmp_path, "GPU-b", "GPU-a")
    assert visible_gpus({}, tmp_path) == ("GPU-b", "GPU-a")


def test_a_gpu_that_cannot_be_read_is_left_out(tmp_path):
    driver(tmp_path, "GPU-b")
    (tmp_path / "0000:7f:00.0").mkdir()
    assert visible_gpus({}, tmp_path) == ("GPU-b",)


def test_without_a_driver_there_are_none(tmp_path):
    assert visible_gpus({}, tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [
        ("2,0", ("2", "0")),
        (" GPU-x , MIG-y ", ("GPU-x", "MIG-y")),
        ("", ()),
        ("-1", ()),
    ],
)
def test_the_launchers_list_is_taken_as_it_is(tmp_path, listed, gpus):
    driver(tmp_path, "GPU-b", "GPU-a")
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": listed}, tmp_path) == gpus


@pytest.mark.parametrize(
    ("kind", "bound"),
    [(None, False), ("mask_cpu:0x3", True), ("map_cpu:0,1", True), ("threads", False)],
)
def test_only_an_explicit_binding_of_slurm_is_honoured(kind, bound):
    environ = {"CUDA_VISIBLE_DEVICES": "1"}
    if kind is not None:
        environ["SLURM_CPU_BIND_TYPE"] = kind
    facts = node_facts(environ)
    assert (facts.explicitly_bound, facts.gpus) == (bound, ("1",))
    assert (facts.node, facts.pid) == (platform.node(), os.getpid())
    assert facts.cores == placement.usable_cores()
