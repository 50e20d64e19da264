"""Every fault of the table is told as documented, and the table is what is told today."""

from __future__ import annotations

import re

import pytest

from tests.conftest import X64
from tests.faults.catalogue import COMMAND, DOCUMENTED, README, outcomes, readme, table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not X64, reason="the runs of this file are in float64"),
    # h5netcdf leaves behind a file that it could not open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

WORKS = re.compile(r"works|.*(read-only or|duplicate rows|NaN in half|newest checkpoint)")
MESSAGE = re.compile(r"got .*; expected .*; probably|no run (at|in) |no known infinite-width limit")


@pytest.fixture(scope="module")
def told():
    return list(outcomes())


def test_every_fault_is_refused_as_documented_or_works(told):
    for place, done, outcome in told:
        if outcome.raised is None:
            assert WORKS.match(done), (place, done, outcome.text)
        else:
            assert issubclass(outcome.raised, DOCUMENTED), (place, done, outcome)
            assert MESSAGE.search(outcome.text), (place, done, outcome.text)
            assert not WORKS.match(done), (place, done)


def test_the_table_is_what_the_package_says(told):
    assert sum(map(len, table().values())) == len(told) >= 50
    wanted = readme(iter(told))
    assert README.read_text(encoding="utf-8") == wanted, f"out of date: run `{COMMAND}`"
