"""The GPUs as NVML tells of them: nvidia-ml-py against a library built here, driven by data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import ROOT, machine
from vllm_guard import gpu, nvml
from vllm_guard.host import Host


@pytest.mark.parametrize(("known", "situation"), machine.situations("gpu"))
def test_a_machine_gives_exactly_these_findings(known, situation, tmp_path, nvml_library) -> None:
    machine.check(known, situation, tmp_path, nvml_library)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, (0, 1, 2)),
        ("", ()),
        ("-1", ()),
        ("2,0", (2, 0)),
        (" 1 , 2 ", (1, 2)),
        ("GPU-b", (1,)),
        ("GPU-", ()),  # names all three
        ("0,x,1", (0,)),
        ("1,GPU-b", ()),
        ("MIG-3", None),
    ],
)
def test_the_devices_that_cuda_shows(value: str | None, expected: tuple[int, ...] | None) -> None:
    devices = tuple(nvml.Device(i, uuid=f"GPU-{letter}") for i, letter in enumerate("abc"))

    found = nvml.visible(devices, value)

    assert (found if found is None else tuple(d.index for d in found)) == expected


TELL = """
import json, sys
from vllm_guard import gpu, nvml
from vllm_guard.frozen import plain
from vllm_guard.host import Host
host = Host(sys.argv[1])
survey = nvml.survey(host)
devices = plain(survey.devices)
print(json.dumps([survey.driver, survey.cuda, [d["name"] for d in devices], plain(gpu.read(host))]))
"""


def test_the_binding_loads_the_library_as_it_does_that_of_a_driver(tmp_path, nvml_library) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    described = tmp_path / "gpus"
    described.write_text(
        "driver 580\ncuda 12080\ndevice\nname H200\ntotal 100\nfree 40\nprocess 7 60\n"
    )
    env = {
        **os.environ,
        "LD_LIBRARY_PATH": str(nvml_library.parent),
        "FAKE_NVML": str(described),
        "PYTHONPATH": str(ROOT),
    }

    done = subprocess.run(
        [sys.executable, "-c", TELL, str(tmp_path)], env=env, capture_output=True, check=True
    )

    driver, cuda, names, read = json.loads(done.stdout)
    assert (driver, cuda, names) == ("580", [12, 8], ["H200"])
    assert read == [{"index": 0, "used": 60, "holders": {"7": 60}}]


def test_a_driver_without_its_library_is_told(tmp_path) -> None:
    """As in a container that was given the devices and not the libraries."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    if os.path.exists("/dev/nvidiactl"):
        pytest.skip("this machine has a driver, and so the library")

    survey = nvml.survey(Host(str(tmp_path)))

    assert survey is not None
    assert survey.problem == "NVML Shared Library Not Found"
    assert gpu.read(Host(str(tmp_path))) == ()


def test_a_machine_without_a_driver_is_not_asked(tmp_path: Path) -> None:
    assert nvml.survey(Host(str(tmp_path))) is None
