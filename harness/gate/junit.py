"""A gate's answer as JUnit XML: a test case for every measure and objective, and one for the runs themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.gate.figures import headline, plain
from harness.gate.result import Answer, GateResult

if TYPE_CHECKING:
    from junitparser import TestCase

__all__ = ["junit_xml"]


def junit_xml(result: GateResult) -> bytes:
    """PASS is a passed case, FAIL a failure, INCONCLUSIVE skipped, INVALID an error; each says why. Needs junitparser."""
    from junitparser import JUnitXml, TestSuite

    suite = TestSuite("harness gate")
    suite.add_property("answer", result.answer)
    suite.add_property("exit_code", str(result.exit_code))
    suite.add_property("arrangement", plain(result.arrangement))
    # Readers of JUnit count cases: an answer that no case has, like that of runs which cannot be believed, would be lost.
    suite.add_testcase(_case("gate", "answer", result.answer, "; ".join([headline(result), *result.reasons])))
    for measure in result.measures:
        suite.add_testcase(_case("gate.measure", measure.name, measure.answer, measure.why))
    for objective in result.objectives:
        name = f"{objective.class_name}: {objective.text}" if objective.class_name else objective.text
        suite.add_testcase(_case("gate.objective", name, objective.answer, objective.why))
    document = JUnitXml()
    document.add_testsuite(suite)
    return bytes(document.tostring())  # type: ignore[no-untyped-call]


def _case(group: str, name: str, answer: Answer, why: str) -> TestCase:
    from junitparser import Error, Failure, Skipped, TestCase

    case = TestCase(plain(name), classname=group, time=0.0)
    kinds = {"FAIL": Failure, "INCONCLUSIVE": Skipped, "INVALID": Error}
    if answer in kinds:
        case.result = [kinds[answer](plain(why), answer)]
    else:
        case.system_out = plain(why)
    return case
