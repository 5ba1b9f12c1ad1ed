"""The result of a diagnosis, and how it is printed."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

_WIDTH = 88


@dataclass(frozen=True)
class Finding:
    """One thing that was found in a model.

    Args:
        code: Name of the fault, for tests: `"no-gradient"`.
        path: Path of the layer or weight, or the argument, it was found in.
        evidence: The numbers that show it.
        advice: How to repair it.
        problem: Whether it needs to be repaired. False: it is good to know.

    Example:

    >>> finding = uq.doctor.Finding("no-gradient", "bump/sigma", "None", "Use it.")
    >>> finding.code, finding.problem
    ('no-gradient', True)
    """

    code: str
    path: str
    evidence: str
    advice: str
    problem: bool = True


Findings: TypeAlias = Iterator[Finding]
"""The result of a check: a generator of what it found."""


@dataclass(frozen=True)
class Diagnosis:
    """All findings of `uq.diagnose`; prints as a table.

    Args:
        findings: Tuple of `Finding`, problems first.
        summary: One line on the batch: its loss, and the parts of the loss.

    Attributes:
        ok: Whether there is no problem; findings that are only good to know
            leave it True.
        problems: The findings that need to be repaired.
        codes: The codes of all findings, each once.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), uq.DistributionHead(1)])
    >>> y = np.linspace(-1, 1, 8)
    >>> x = np.stack([y, y**2], axis=1)
    >>> diagnosis = uq.diagnose(model, x, y, uq.losses.NegativeLogLikelihood())
    >>> diagnosis.ok
    True
    """

    findings: tuple[Finding, ...] = ()
    summary: str = ""

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.problem)

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(finding.code for finding in self.findings))

    def __str__(self) -> str:
        count = len(self.problems)
        verdict = "no problem found" if self.ok else f"{count} problem(s) found"
        lines = [f"Diagnosis: {verdict}"]
        if self.summary:
            lines.append(self.summary)
        for finding in self.findings:
            mark = "PROBLEM" if finding.problem else "note"
            lines += ["-" * _WIDTH, f"{mark:8} {finding.code:24} {finding.path}"]
            for name, text in (("found", finding.evidence), ("do", finding.advice)):
                lines += textwrap.wrap(
                    text,
                    _WIDTH,
                    initial_indent=f"  {name:6} ",
                    subsequent_indent=" " * 9,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)
