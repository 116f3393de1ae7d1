from __future__ import annotations

from pathlib import Path

import pytest

from vpbench.sources import digest, sources

FILES = {
    "model.py": "import numpy\nfrom fill import LEVEL\nimport pkg.deep\n\ndef late():\n    import lazily\n",
    "fill.py": "import os\nLEVEL = 128\n",
    "lazily.py": "import model\n",
    "other.py": "",
    "pkg/__init__.py": "",
    "pkg/deep.py": "from . import near\nfrom .sub.leaf import x\nfrom ..outside import y\n",
    "pkg/near.py": "import vpbench.clip\n",
    "pkg/far.py": "",
    "pkg/sub/__init__.py": "",
    "pkg/sub/leaf.py": "x = 1\n",
    "vpbench/__init__.py": "",
    "vpbench/clip.py": "",
}
USED = ["fill.py", "lazily.py", "model.py", "pkg/__init__.py", "pkg/deep.py", "pkg/near.py", "pkg/sub/__init__.py", "pkg/sub/leaf.py"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_model_is_its_file_and_what_it_imports_beside_it(root: Path) -> None:
    assert [path.relative_to(root).as_posix() for path in sources("model", root / "model.py")] == USED


def test_a_module_of_a_package_finds_the_same_root(root: Path) -> None:
    found = [path.relative_to(root).as_posix() for path in sources("pkg.deep", root / "pkg" / "deep.py")]
    assert found == ["pkg/__init__.py", "pkg/deep.py", "pkg/near.py", "pkg/sub/__init__.py", "pkg/sub/leaf.py"]


@pytest.mark.parametrize("name", FILES)
def test_only_a_change_of_these_files_changes_the_digest(root: Path, name: str) -> None:
    before = digest("model", root / "model.py")
    path = root / name
    path.write_text(path.read_text() + "# changed\n")
    assert (digest("model", root / "model.py") != before) == (name in USED)


def test_the_digest_does_not_depend_on_the_folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    moved = tmp_path_factory.mktemp("elsewhere") / "copy"
    before = digest("model", root / "model.py")
    root.rename(moved)
    assert digest("model", moved / "model.py") == before


def test_an_installed_package_counts_without_its_neighbours(tmp_path: Path) -> None:
    root = tmp_path / "site-packages"
    (root / "mine").mkdir(parents=True)
    (root / "mine" / "__init__.py").write_text("import theirs\nfrom mine import part\n")
    (root / "mine" / "part.py").write_text("")
    (root / "theirs.py").write_text("")
    assert [path.name for path in sources("mine", root / "mine" / "__init__.py")] == ["__init__.py", "part.py"]


def test_a_file_that_cannot_be_parsed_is_itself(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def (\n")
    assert sources("bad", tmp_path / "bad.py") == [tmp_path / "bad.py"]
