"""What it means when a process dies without a word."""

import pytest

from mpirun_infer.model import FailureKind
from mpirun_infer.supervise.autopsy import Finding
from mpirun_infer.supervise.greeting import Greeting


class Plan:
    """As much of a plan as is asked for."""

    python = "/opt/python"


@pytest.mark.parametrize("killed", [True, False])
def test_only_a_process_that_ended_by_itself_was_no_python(killed):
    finding = Finding(
        blamed=None, kind=FailureKind.PROCESS_EXIT, error="it", where="", detail="", run_s=0.0
    )
    judged = Greeting(Plan()).judge(finding, killed=killed)
    assert judged.usage_error is not killed
    assert judged.reason.startswith("it" if killed else "/opt/python did not start as a Python")
