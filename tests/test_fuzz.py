"""Every reader, on a few spoiled files: tests/fuzz.py runs the same for hours."""

from __future__ import annotations

import pytest
from fuzz import CASES, run_worker

GROUPS = (list(CASES)[: len(CASES) // 2], list(CASES)[len(CASES) // 2 :])


@pytest.mark.parametrize("names", GROUPS, ids=["splats", "others"])
def test_spoiled_files_get_a_result_or_one_sentence_within_bounds(names: list[str]) -> None:
    assert run_worker(names, seed=1, count=8) == ""
