"""The model on described machines: the hub's answers, and what its types and sizes ask of the GPUs."""

from __future__ import annotations

import pytest

from tests.kit import machine


@pytest.mark.parametrize(("known", "situation"), machine.situations("model"))
def test_a_machine_gives_exactly_these_findings(known, situation, tmp_path, nvml_library) -> None:
    machine.check(known, situation, tmp_path, nvml_library)
