"""The files that a user's own code consists of, so that a changed helper module is another model."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

INSTALLED = ("site-packages", "dist-packages")
OURS = "vpbench"  # its own versions stand for it


def sources(module: str, file: Path) -> list[Path]:
    """Return ``file`` and the modules beside it that it imports, directly or through each other, sorted; they are parsed, not run.

    Beside it means below the folder from which ``module`` is imported; of an installed package only its own modules count. Modules that
    are imported by a computed name, other languages and data files are not seen.

    Args:
        module: the dotted name under which ``file`` was imported.
        file: its source.
    """
    parts = module.split(".")
    root = file.parents[len(parts) - 1 + (file.name == "__init__.py")] if len(file.parents) > len(parts) else file.parent
    only = parts[0] if set(INSTALLED) & set(root.parts) else ""
    found: dict[Path, str] = {}
    waiting = [(module, file)]
    while waiting:
        name, path = waiting.pop()
        if path in found:
            continue
        found[path] = name
        for imported in _imports(path, name):
            top = imported.split(".")[0]
            if top != OURS and (not only or top == only):
                waiting += _files(root, imported)
    return sorted(found)


def digest(module: str, file: Path) -> str:
    """Return the hex sha256 of the ``sources`` of a module; of a single file the sha256 of its bytes."""
    files = sources(module, file)
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    if len(hashes) == 1:
        return hashes[0]
    names = [os.path.relpath(path, file.parent) for path in files]
    return hashlib.sha256("\n".join(f"{name} {code}" for name, code in zip(names, hashes, strict=True)).encode()).hexdigest()


def _imports(path: Path, name: str) -> Iterator[str]:
    """The dotted names that a file imports anywhere, relative ones resolved."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # Python will say so when it is imported
        return
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ([base] if base else [])
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _files(root: Path, name: str) -> Iterator[tuple[str, Path]]:
    """The modules of a dotted name that lie below ``root``, the packages around it included."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:length])
        for path in (base.with_name(base.name + ".py"), base / "__init__.py"):
            if path.is_file():
                yield ".".join(parts[:length]), path
