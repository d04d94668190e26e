"""Which names a vLLM knows that is not installed, by the sampled releases. Pure: the table comes in.

Where a vLLM is installed, its own source is read instead (`target.install`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Literal

from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

Kind = Literal["variables", "engine"]


def knows(name: str, kind: Kind, version: str, table: Mapping[str, Any]) -> bool | None:
    """Does that version know the variable or engine argument? None where the samples cannot tell.

    `table`: `vllm_guard/data/vllm_names.toml`. Between a sample that has a name and one that has not, both
    are possible; a local or pre-release version counts as its release.
    """
    samples = [Version(release) for release in table[kind]["releases"]]
    try:
        asked = Version(Version(version).base_version)
    except ValueError:  # also of a number that is too long for Python
        return None
    bases = [Version(sample.base_version) for sample in samples]
    if not bases[0] <= asked <= bases[-1]:
        return None
    ends = table[kind]["known"].get(name)
    if ends is None:
        return False if asked in bases else None
    first, last = (Version(Version(end).base_version) for end in ends)
    if first <= asked <= last:
        return True
    # The samples around it: both must be without the name.
    before, after = bases[bisect_right(bases, asked) - 1], bases[bisect_left(bases, asked)]
    return None if first <= before <= last or first <= after <= last else False
