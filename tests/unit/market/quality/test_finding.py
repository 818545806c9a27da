import os
import subprocess
import sys
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from repository import REPOSITORY

from k2_market.quality.finding import Finding, Severity

FINDING = Finding(
    "dead_letters", False, Severity.WARN, "two", {"dead_letters": 2, "share": 0.5}, ({"reason": "Ü\n", "n": 2},)
)


def test_equal_findings_have_equal_fingerprints_in_another_process_too():
    script = (
        "from k2_market.quality.finding import *;"
        "print(Finding('dead_letters', False, Severity.WARN, '', {'share': 0.5, 'dead_letters': 2},"
        "({'n': 2, 'reason': 'Ü\\n'},)).fingerprint)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(REPOSITORY)}

    other = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)

    assert other.stdout.strip() == FINDING.fingerprint


def test_findings_that_differ_in_check_numbers_or_examples_have_other_fingerprints():
    others = [
        replace(FINDING, check="sequence_gaps"),
        replace(FINDING, numbers={"dead_letters": 3, "share": 0.5}),
        replace(FINDING, numbers={"dead_letters": "2", "share": 0.5}),
        replace(FINDING, examples=()),
        replace(FINDING, examples=({"reason": "Ü\n", "n": 3},)),
    ]

    assert len({FINDING.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_a_day_that_grew_is_no_other_finding():
    grown = replace(FINDING, numbers={"dead_letters": 2, "share": 0.25})

    assert (
        replace(grown, sizes=frozenset({"share"})).fingerprint
        == replace(FINDING, sizes=frozenset({"share"})).fingerprint
    )
    assert grown.fingerprint != FINDING.fingerprint


@given(st.text())
def test_any_text_has_a_fingerprint(text):
    assert len(replace(FINDING, examples=({"symbol": text},)).fingerprint) == 16
