"""A runner's first word, and what it means when there was none.

Owns the question whether the job's interpreter is a Python that can run a runner.
Touches: nothing.
Never:   believes a hello: a script may have written it.
"""

from collections.abc import Mapping

from mpirun_infer.model import RunnerPlan
from mpirun_infer.supervise.answers import InitError
from mpirun_infer.supervise.autopsy import Finding
from mpirun_infer.supervise.runner_setup import setup_frame

PYTHON_MIN = (3, 8)


class Greeting:
    """Of all processes of one worker, one after the other."""

    def __init__(self, plan: RunnerPlan) -> None:
        self._plan = plan
        self._greeted: int | None = None

    def answer(
        self, version: str, process: int, folders: Mapping[str, str]
    ) -> tuple[dict[str, object], InitError | None]:
        """The frame that answers a hello, and why the process is to leave, if it is.

        Raises:
            ValueError: such a hello makes no sense.
        """
        if process == self._greeted:
            raise ValueError("a second hello")
        self._greeted = process
        if tuple(map(int, version.split(".")))[:2] < PYTHON_MIN:
            reason = self._wrong_python(f"it is Python {version}")
            return {"type": "shutdown"}, InitError(reason, "", usage_error=True)
        return setup_frame(self._plan, process, folders), None

    def judge(self, finding: Finding, *, killed: bool) -> InitError:
        """Why a process died that told of no failure of import or init().

        `killed`: by a signal, which says nothing about what it was: it deserves another try.
        """
        if self._greeted is None and not killed:  # nor did an earlier one: no Python, or an old one
            reason = self._wrong_python(finding.error)
            return InitError(reason, finding.detail, usage_error=True)
        where = f", {finding.where}" if finding.where else ""
        return InitError(f"{finding.error}{where}", finding.detail, usage_error=False)

    def _wrong_python(self, found: str) -> str:
        least = ".".join(map(str, PYTHON_MIN))
        return (
            f"{self._plan.python} did not start as a Python >= {least} ({found}); give "
            "environment: {python: PATH}"
        )
