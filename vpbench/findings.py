"""What the checks say: one line each, with evidence and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something that was found.

    Attributes:
        where: the clip, file or setting that it is about.
        fault: what it is, in a few words that are the same for all of its kind: ``swapped channels``.
        evidence: what it was seen by, with numbers.
        remedy: what to do.
        note: it need not be a fault.
    """

    where: str
    fault: str
    evidence: str
    remedy: str = ""
    note: bool = False

    def line(self) -> str:
        """For people."""
        said = f"{self.fault}: {self.evidence}" if self.fault else self.evidence
        return f"{'note' if self.note else 'finding'}  {self.where}: {said.rstrip('.')}" + (f". {self.remedy}" if self.remedy else "")


def verdict(found: Iterable[Finding], what: str) -> str:
    """The last line of a check."""
    faults = [one for one in found if not one.note]
    if not faults:
        return f"check: ok  {what}"
    places = len({one.where for one in faults})
    return f"check: FOUND  {len(faults)} finding{'s' * (len(faults) > 1)} in {places} place{'s' * (places > 1)}; {what}"
