"""Made-up summaries and run folders, for tests of what reads them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vpbench.results import SCHEMA, load_summaries
from vpbench.tables import Group, Row, Table, rank


def column(name: str, value: float | None = None, **changes: Any) -> dict[str, Any]:
    """A column of a summary: PSNR-like unless told otherwise; ``values`` per clip (None where undefined) bring their mean along."""
    metric, region = name.removesuffix("]").split("[")
    excluded = changes.pop("excluded", ())
    values = changes.pop("values", None)
    if values is not None:
        changes = {**stored(values, changes.get("clip_frames") if changes.get("average") == "frames" else None), **changes}
    return {
        "metric": metric,
        "region": region,
        "column": name,
        "unit": "dB",
        "direction": "higher",
        "digits": 2,
        "scale": 1,
        "signature": f"{name}|v1",
        "value": value,
        "n": 8 - len(excluded),
        "excluded": [{"clip": clip, "reason": f"{clip}: the hole is empty"} for clip in excluded],
        "exact_frames": 0,
        "absent": "",
        "unranked": "",
        "average": "clips",
        **changes,
    }


def stored(values: Sequence[float | None], weights: Sequence[int] | None) -> dict[str, Any]:
    """What scoring stores of values per clip."""
    defined = [(value, weight) for value, weight in zip(values, weights or [1] * len(values), strict=True) if value is not None]
    total = sum(weight for _, weight in defined)
    return {
        "values": list(values),
        "value": math.fsum(value * weight for value, weight in defined) / total if defined else None,
        "n": len(defined),
        "excluded": [
            {"clip": clip, "reason": "the hole is empty"}
            for clip, value in zip(clip_names(len(values)), values, strict=True)
            if value is None
        ],
    }


def clip_names(count: int) -> list[str]:
    """Sorted names: clip0, clip1, ..."""
    return [f"clip{i}" if count <= 10 else f"clip{i:03}" for i in range(count)]


def fvd(value: float, without: Sequence[float | None], **changes: Any) -> dict[str, Any]:
    """A column of a set metric, with its values without each clip."""
    about = {"unit": "", "direction": "lower", "average": "set", "leave_one_out": list(without), "n": len(without)}
    return column("fvd[frame]", value, **{**about, "vectors": 2 * len(without), "dimensions": 400, **changes})


def mse(value: float | None = None, **changes: Any) -> dict[str, Any]:
    return column("mse[hole]", value, **{"unit": "", "direction": "lower", "scale": 100, "digits": 3, **changes})


def psnr(value: float | None = None, **changes: Any) -> dict[str, Any]:
    return column("psnr[hole]", value, **changes)


class Runs:
    """Writes run folders."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(
        self, model: str, *columns: dict[str, Any], run: str = "", folder: str = "", ok: int | None = None, total: int = 0, **changes: Any
    ) -> Path:
        """Write one run; it has as many clips as its columns have values, else 8."""
        clips = next((len(c[key]) for c in columns for key in ("values", "leave_one_out") if key in c), 8)
        ok, total = clips if ok is None else ok, total or clips
        summary = {
            "schema": SCHEMA,
            "benchmark": {
                "name": changes.pop("benchmark", "demo"),
                "fingerprint": changes.pop("fingerprint", "0123456789abcdef"),
                "clips": 8,
            },
            "model": {
                "name": model,
                "needs_reference": changes.pop("needs_reference", False),
                "ranked": changes.pop("ranked", True),
                **({"barred": changes.pop("barred")} if "barred" in changes else {}),
            },
            "run": run or f"{model}-1a2b",
            "protocol": "pixels",
            "track": "raw",
            "clips": {
                "total": total,
                "ok": ok,
                "names": clip_names(ok),
                "properties": changes.pop("properties", {}),
                "failed": changes.pop("failed", []),
                "missing": [],
            },
            "mean_rank": [c["column"] for c in columns],
            "columns": list(columns),
            **changes,
        }
        path = self.root / (folder or f"run{len(list(self.root.iterdir()))}")
        file = path / "scores" / f"{summary['protocol']}-{summary['track']}" / "summary.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(summary))
        return path

    def table(self) -> Table:
        return rank(load_summaries([self.root]))

    def group(self) -> Group:
        (group,) = self.table().groups
        return group

    def rows(self) -> dict[str, Row]:
        return {row.label: row for row in self.group().rows}
