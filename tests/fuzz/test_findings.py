"""What damaged inputs once brought about: each was a crash, gigabytes of memory, a program started, or code run."""

from __future__ import annotations

import ast
import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.files import frames, holes, write_pictures, write_video
from tests.fuzz.mutations import bomb
from tests.fuzz.readers import command, run_config, two_runs, vpbench_layout
from tests.summaries import Runs, mse, psnr
from vpbench.benchmarks.vpbench import VPBench
from vpbench.errors import ConfigError, DataError, StorageError, VpbenchError
from vpbench.gate_rules import load_rules
from vpbench.masks import check_manifest
from vpbench.outputs import Output
from vpbench.results import load_summaries
from vpbench.running import Run
from vpbench.storage import read_arrays, read_json
from vpbench.submissions import read_options
from vpbench.trust import check_stored
from vpbench.video import probe, read_picture, read_video

REPOSITORY = Path(__file__).resolve().parents[2]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def png(path: Path, width: int, height: int, more: Mapping[bytes, bytes] | None = None) -> Path:
    """A PNG of some bytes that claims this size."""
    head = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)}
    parts = {**head, **(more or {}), b"IDAT": zlib.compress(bytes(100)), b"IEND": b""}
    chunks = (struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts.items())
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    two_runs(root)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """Two runs, a copy of its own for each test."""
    shutil.copytree(made, tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def run(root: Path) -> Path:
    """One of them."""
    (found,) = (root / "runs/bench").glob("grey-*")
    return found


class TestPicturesAndVideos:
    def test_postscript_under_the_name_of_a_picture_starts_no_program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
        (tmp_path / "a.png").write_bytes(EPS)
        with pytest.raises(DataError, match=r"a\.png: cannot be decoded as a picture"):
            read_picture(tmp_path / "a.png")
        write_pictures(tmp_path / "b", frames(1))
        (tmp_path / "b/00001.jpg").write_bytes(EPS)
        with pytest.raises(DataError, match=r"00001\.jpg"):
            Output("b", tmp_path / "b", (tmp_path / "b/00000.png", tmp_path / "b/00001.jpg")).header()

    @pytest.mark.parametrize("size", [(100_000, 100_000), (13_000, 13_000), (2**31 - 1, 1)])
    def test_a_picture_that_claims_a_huge_size(self, size: tuple[int, int], tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"a\.png: cannot be decoded as a picture"):
            read_picture(png(tmp_path / "a.png", *size))

    def test_a_picture_with_an_empty_colour_profile(self, tmp_path: Path) -> None:
        assert read_picture(png(tmp_path / "a.png", 5, 6)).shape == (6, 5, 3)
        with pytest.raises(DataError, match=r"b\.png: cannot be decoded as a picture"):
            read_picture(png(tmp_path / "b.png", 5, 6, {b"iCCP": b""}))

    def test_a_picture_with_a_part_that_claims_four_gigabytes(self, tmp_path: Path) -> None:
        """Pillow asks for all of them at once; a process that may not have them is what a small machine is."""
        import subprocess
        import sys

        path = png(tmp_path / "a.png", 5, 6)
        head, _, rest = path.read_bytes().partition(b"IDAT")
        path.write_bytes(head[:-4] + b"\xff\xff\xff\xffIDAT" + rest)
        code = (
            "import PIL.Image; from tests.fuzz.guards import limit_address_space as limit; from vpbench.video import read_picture; limit();"
        )
        done = subprocess.run([sys.executable, "-c", f"{code} read_picture({str(path)!r})"], capture_output=True, text=True, cwd=REPOSITORY)
        assert "DataError" in done.stderr
        assert "a.png: cannot be decoded as a picture (it claims more data than fit into memory)" in done.stderr

    def test_the_second_picture_of_an_output_claims_a_huge_size(self, tmp_path: Path) -> None:
        write_pictures(tmp_path, frames(1))
        huge = png(tmp_path / "00001.png", 100_000, 100_000)
        with pytest.raises(DataError, match=r"00001\.png"):
            Output("a", tmp_path, (tmp_path / "00000.png", huge)).header()

    def test_a_video_whose_frames_are_larger_than_any_screen(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write_video(tmp_path / "a.mp4", frames(2))
        assert read_video(path)[0].shape == (2, 32, 56, 3)
        monkeypatch.setattr("vpbench.video.MOST_PIXELS", 32 * 56 - 1)
        with pytest.raises(DataError, match=r"a\.mp4: claims frames of 56x32"):
            probe(path)

    def test_texts_in_a_video_need_not_be_utf8(self, tmp_path: Path) -> None:
        import av

        path = tmp_path / "a.mkv"
        with av.open(str(path), "w") as container:
            container.metadata["title"] = "TITLE"
            stream = container.add_stream("ffv1", rate=8)
            stream.height, stream.width, stream.pix_fmt = 32, 56, "bgr0"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frames(1)[0], format="rgb24")))
            container.mux(stream.encode(None))
        path.write_bytes(path.read_bytes().replace(b"TITLE", b"T\xef\xff\xfeE"))
        assert probe(path).frames == Output("a", path).header().frames == 1


class TestArrays:
    def test_masks_that_unpack_to_600_megabytes(self, tmp_path: Path) -> None:
        vpbench_layout(tmp_path)
        for place in ("pexels", "videovo"):
            shutil.move(tmp_path / "aside" / place, tmp_path / place)
        masks = tmp_path / "video_inpainting/pexels/111111111_a/all_masks.npz"
        masks.write_bytes(bomb("arr_0.npy"))
        handle = next(iter(VPBench(tmp_path, csv="aside/list.csv")))
        with pytest.raises(DataError, match=r"all_masks\.npz: cannot be read \(it unpacks to 600000128 bytes, expected at most"):
            handle.load()

    def test_masks_that_are_no_array(self, tmp_path: Path) -> None:
        import zipfile

        vpbench_layout(tmp_path)
        for place in ("pexels", "videovo"):
            shutil.move(tmp_path / "aside" / place, tmp_path / place)
        with zipfile.ZipFile(tmp_path / "video_inpainting/pexels/111111111_a/all_masks.npz", "w") as archive:
            archive.writestr("arr_0.npy", b"no array")
        with pytest.raises(DataError, match="arr_0 is no array"):
            next(iter(VPBench(tmp_path, csv="aside/list.csv"))).load()
        shutil.copy(tmp_path / "video_inpainting/pexels/111111111_a/all_masks.npz", tmp_path / "a.npz")
        with pytest.raises(StorageError, match=r"a\.npz: .*arr_0 is no array"):
            read_arrays(tmp_path / "a.npz")

    def test_stored_arrays_that_unpack_to_more_than_was_written(self, tmp_path: Path) -> None:
        (tmp_path / "a.npz").write_bytes(bomb("values.npy"))
        with pytest.raises(StorageError, match=r"a\.npz: .*it unpacks to"):
            read_arrays(tmp_path / "a.npz")

    def test_arrays_that_no_run_writes(self, root: Path, run: Path) -> None:
        """With the right checksums, so that they are not taken for damaged and computed again."""
        for path in run.glob("measures/*/b.npz"):
            tie = read_arrays(path)["_prediction"]
            np.savez(path, _prediction=tie, nothing=np.zeros((1, 0, 5)))
        with pytest.raises(StorageError, match=r"measures/\*/b\.npz: hold arrays that no run writes"):
            Run(run_config(root, "grey")).execute()
        (other,) = (root / "runs/bench").glob("dark-*")
        assert command("explain", run, other, "--track", "raw", "--other-track", "composite", "--json", root / "a.json") == 0
        assert "not what a run writes" in (root / "a.json").read_text()

    def test_weights_that_unpack_to_600_megabytes(self, tmp_path: Path) -> None:
        from vpbench.baselines import weight_files
        from vpbench.weights import known_files
        from vpbench.weights_check import fault

        (tmp_path / "a.pth").write_bytes(bomb("archive/data/0"))
        with pytest.raises(ConfigError, match=r"a\.pth: cannot be read as tensors by name \(it unpacks to"):
            weight_files.read(tmp_path / "a.pth", "ProPainter")
        file = next(file for file in known_files() if file.format == "torch-state-dict")
        assert "it unpacks to 600000128 bytes" in fault(tmp_path / "a.pth", file, run=False)

    def test_weights_in_the_old_format_with_another_key(self, tmp_path: Path) -> None:
        import torch

        from vpbench.baselines import weight_files

        made = io.BytesIO()
        tensor = torch.ones(2)
        torch.save({"bias": tensor}, made, _use_new_zipfile_serialization=False)
        key = str(tensor.untyped_storage()._cdata).encode()
        head, found, rest = made.getvalue().rpartition(key)
        assert found
        (tmp_path / "a.pth").write_bytes(head + b"1" * len(key) + rest)
        with pytest.raises(ConfigError, match=r"a\.pth: cannot be read as tensors by name"):
            weight_files.read(tmp_path / "a.pth", "ProPainter")


class TestTexts:
    @pytest.mark.parametrize("column", ["end_frame", "start_frame"])
    def test_a_list_that_asks_for_a_quadrillion_frames(self, column: str, tmp_path: Path) -> None:
        vpbench_layout(tmp_path)
        for place in ("pexels", "videovo"):
            shutil.move(tmp_path / "aside" / place, tmp_path / place)
        head = "path,mask_id,start_frame,end_frame,fps,Edited_video_caption,Edited_image_caption,Editing_instruction\n"
        row = {"start_frame": "0", "end_frame": "4", column: "1e15"}
        list_ = f"{head}111111111_a.mp4,2,{row['start_frame']},{row['end_frame']},8,,,Remove it\n"
        (tmp_path / "list.csv").write_text(list_)
        handle = next(iter(VPBench(tmp_path, "edit_long", csv="list.csv")))
        for read in (handle.shape, handle.load):
            with pytest.raises(DataError, match=r"the list asks for frames .* the video has 4"):
                read()

    @pytest.mark.parametrize("content", ["{}", '{"clips": null}', '{"clips": [null]}', '{"clips": [{"clip": "a"}]}', '{"clips": {"a": 1}}'])
    def test_a_mask_manifest_of_another_shape(self, content: str, tmp_path: Path) -> None:
        (tmp_path / "masks.json").write_text(content)
        with pytest.raises(DataError, match=r"masks\.json: is no manifest of masks"):
            check_manifest(tmp_path / "masks.json", "a", holes(1))

    def test_json_that_is_nested_too_deeply(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text("[" * 100_000)
        with pytest.raises(StorageError, match=r"a\.json: cannot be read as JSON"):
            read_json(tmp_path / "a.json")

    @pytest.mark.parametrize("content", ["[" * 100_000, '{"options":' * 100_000, "[]", '{"options": {"by": "\\ud800"}}'])
    def test_a_leaderboard_whose_options_are_nested_too_deeply(self, content: str, tmp_path: Path) -> None:
        (tmp_path / "leaderboard.json").write_text(content)
        with pytest.raises(DataError, match=r"leaderboard\.json: does not say how the tables were made"):
            read_options(tmp_path)

    @pytest.mark.parametrize(
        ("edit", "reason"),
        [
            pytest.param(lambda s: s.update(run="\ud800"), "cannot be read as JSON", id="half of a surrogate pair"),
            pytest.param(lambda s: s["columns"][0].update(digits=10**9), "1000000000 digits", id="a billion digits"),
            pytest.param(lambda s: s["columns"][0].update(scale=0), "values times 0", id="values times zero"),
            pytest.param(lambda s: s["columns"][0].update(value=10**400), "too large", id="a number beyond floats"),
            pytest.param(lambda s: s["columns"][0].update(absent="gone"), "has values, and is absent", id="values of an absent column"),
            pytest.param(lambda s: s["columns"].append(s["columns"][0]), "a column occurs twice", id="a column twice"),
        ],
    )
    def test_summaries(self, edit: Callable[[dict[str, Any]], Any], reason: str, tmp_path: Path) -> None:
        (file,) = Runs(tmp_path)("telea", psnr(values=[20.0, 30.0]), mse(values=[0.1, 0.2])).rglob("summary.json")
        change(file, edit)
        with pytest.raises(DataError, match=f"summary.json: .*{reason}"):
            load_summaries([tmp_path])

    def test_a_summary_with_half_a_surrogate_pair_as_bytes(self, tmp_path: Path) -> None:
        (file,) = Runs(tmp_path)("telea", psnr(values=[20.0, None])).rglob("summary.json")
        file.write_bytes(file.read_bytes().replace(b"the hole is empty", b"the hole \xed\xa0\x80"))
        with pytest.raises(DataError, match=r"summary\.json: cannot be read as JSON"):
            load_summaries([tmp_path])

    @pytest.mark.parametrize("failed", ["none", ["clip7"], [{"clip": "clip7"}], 3])
    def test_a_summary_whose_failed_clips_are_something_else(self, failed: Any, tmp_path: Path) -> None:
        Runs(tmp_path)("telea", psnr(values=[20.0, 30.0]), failed=failed)
        with pytest.raises(DataError, match=r"summary\.json: is not a summary"):
            load_summaries([tmp_path])

    @pytest.mark.parametrize("key", ["exact_frames", "version"])  # one that is used, one that is only handed on
    def test_a_summary_with_a_number_that_overflows(self, key: str, tmp_path: Path) -> None:
        (file,) = Runs(tmp_path)("telea", psnr(values=[20.0, 30.0], version=0)).rglob("summary.json")
        file.write_text(file.read_text().replace(f'"{key}": 0', f'"{key}": 1e999'))
        with pytest.raises(DataError, match=r"summary\.json: cannot be read as JSON \(1e999 is beyond what a float can be"):
            load_summaries([tmp_path])

    @pytest.mark.parametrize("tolerance", ["1" + "0" * 400, "1" + "0" * 400 + "%"])
    def test_a_tolerance_beyond_floats(self, tolerance: str, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(f"rules:\n  - {{metric: psnr, tolerance: {tolerance}}}\n")
        with pytest.raises(ConfigError, match=r"rules\[0\]\.tolerance"):
            load_rules(str(tmp_path / "a.yaml"))


class TestRunFolders:
    @pytest.mark.parametrize(
        "edit",
        [
            pytest.param(lambda m: m.update(provenance=[]), id="provenance"),
            pytest.param(lambda m: m.update(clips={"b": {}}), id="a clip's fingerprint"),
            pytest.param(lambda m: m.update(config="x"), id="configuration"),
            pytest.param(lambda m: m.update(identity=3), id="identity"),
            pytest.param(lambda m: m["identity"].update(model="x"), id="the model's identity"),
            pytest.param(lambda m: m.pop("clips"), id="no clips"),
        ],
    )
    def test_a_manifest_whose_parts_are_of_other_types(self, edit: Callable[[dict[str, Any]], Any], root: Path, run: Path) -> None:
        change(run / "run.json", edit)
        for arguments in (("status", run), ("report", run, "-o", root / "out"), ("explain", run, run, "--track", "raw")):
            with pytest.raises(VpbenchError, match=r"run\.json"):
                command(*arguments)

    @pytest.mark.parametrize(
        "edit",
        [
            pytest.param(lambda r: r.update(properties=[]), id="properties"),
            pytest.param(lambda r: r["properties"].update(frames="many"), id="frames"),
            pytest.param(lambda r: r.update(present=[3, 1]), id="present frames"),
            pytest.param(lambda r: r.update(prediction="../x"), id="checksum"),
            pytest.param(lambda r: r.pop("status"), id="no status"),
            pytest.param(lambda r: r.update(clip="a"), id="another clip"),
            pytest.param(lambda r: r.pop("has_truth"), id="no has_truth"),
            pytest.param(lambda r: r.pop("properties"), id="no properties"),
            pytest.param(lambda r: r["properties"].pop("frames"), id="no frames"),
        ],
    )
    def test_a_record_of_other_types_is_no_record(self, edit: Callable[[dict[str, Any]], Any], root: Path, run: Path) -> None:
        change(run / "clips/b.json", edit)
        assert command("status", run) == 1
        assert command("report", run, "-o", root / "out") == 0
        assert Run(run_config(root, "grey")).execute().generated == ["b"]
        assert command("status", run) == 0

    @pytest.mark.parametrize(
        "owner", [{"pid": 10**30}, {"pid": 1e999}, {"since": 10**400}, {"since": -1e308}, {"since": 1e999}, {"host": "\ud800"}, []]
    )
    def test_a_claim_with_extreme_numbers_or_texts(self, owner: Any, run: Path) -> None:
        from vpbench.storage import machine

        for where in ("elsewhere", machine()):
            given = {"host": "node-6", "machine": where, "pid": 1, "since": 0, **owner} if owner else owner
            (run / "clips/b.claim").write_text(json.dumps(given))
            assert command("status", run) in (0, 1)
            assert command("status", run, "--json") in (0, 1)

    @pytest.mark.parametrize("cap", ["9" * 400, "1.2.3", ""])
    def test_a_signature_whose_cap_is_no_number(self, cap: str, root: Path, run: Path) -> None:
        path = run / "scores/pixels-raw/summary.json"
        path.write_text(path.read_text().replace("cap=100", f"cap={cap}"))
        assert command("report", run, "-o", root / "out") == 0

    def test_a_protocol_of_another_shape(self, run: Path, root: Path) -> None:
        (other,) = (root / "runs/bench").glob("dark-*")
        for metrics in (["psnr"], {"psnr": "x"}, {"psnr": {"regions": ["hole"]}}):
            change(run / "run.json", lambda m, metrics=metrics: m["config"]["protocol"].update(metrics=metrics))
            assert command("explain", run, other, "--track", "raw", "--other-track", "composite") == 0


OTHERS = (
    *("vpbench.benchmarks.folder.Path", "vpbench.storage.write_bytes", "vpbench.benchmarks.common.read_csv", "os.system", "tests.toy.Toy"),
    *("", 3, None),
)


class TestStoredCode:
    """A run folder that comes from somebody else names code in its configuration."""

    EVIL = ({"_target_": "os.system", "command": "touch {}"}, {"_target_": "subprocess.getoutput", "cmd": "touch {}"})

    @pytest.mark.parametrize("evil", EVIL, ids=lambda evil: evil["_target_"])
    def test_a_benchmark_is_not_called(self, evil: dict[str, str], root: Path) -> None:
        mark = root / "mark"
        for run in (root / "runs/bench").glob("*-*"):
            change(run / "run.json", lambda m: m["config"].update(benchmark={k: v.format(mark) for k, v in evil.items()}))
            shutil.rmtree(run / "measures")
        grey, dark = ((next((root / "runs/bench").glob(f"{name}-*"))) for name in ("grey", "dark"))
        assert command("report", root / "runs", "-o", root / "out") == 0
        assert command("explain", grey, dark, "--track", "raw", "--other-track", "composite", "--measure") == 0
        assert not mark.exists()
        assert "a stored configuration runs no other code" in (root / "out/index.html").read_text()

    @pytest.mark.parametrize("evil", EVIL, ids=lambda evil: evil["_target_"])
    def test_a_metric_and_its_options_are_not_called(self, evil: dict[str, str], root: Path) -> None:
        mark = root / "mark"
        grey, dark = ((next((root / "runs/bench").glob(f"{name}-*"))) for name in ("grey", "dark"))
        leaf = {k: v.format(mark) for k, v in evil.items()}
        option = {"_target_": "vpbench.metrics.psnr.Psnr", "regions": ["hole"], "boundary_px": leaf}
        for name, metric in {"itself": leaf, "option": option}.items():
            change(grey / "run.json", lambda m, metric=metric: m["config"]["protocol"]["metrics"].update(psnr=metric))
            assert command("explain", grey, dark, "--track", "raw", "--other-track", "composite") == 0, name
            assert not mark.exists(), name

    @pytest.mark.parametrize("target", ["vpbench.benchmarks.demo.Demo", "vpbench.metrics.psnr.Psnr"])
    def test_ours_are_trusted(self, target: str) -> None:
        check_stored({"_target_": target}, "a")

    @pytest.mark.parametrize("target", OTHERS)
    def test_others_are_not(self, target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("VPBENCH_TRUST", raising=False)
        for leaf in ({"_target_": target}, {"a": {"_target_": target}}, {"a": [{"_target_": target}]}):
            with pytest.raises(ConfigError, match="runs no other code"):
                check_stored(leaf, "a")

    def test_a_module_that_the_user_vouches_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VPBENCH_TRUST", "my_file, tests")
        check_stored({"_target_": "tests.toy.Toy"}, "a")
        with pytest.raises(ConfigError, match="VPBENCH_TRUST=vpbench"):
            check_stored({"_target_": "vpbench.storage.write_bytes"}, "a")

    @pytest.mark.parametrize("folder", ["vpbench", "baselines", "metrics"])
    def test_no_pickle_is_loaded(self, folder: str) -> None:
        """``torch.load`` always with ``weights_only=True``, ``numpy.load`` always with ``allow_pickle=False``, ``pickle`` never."""
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    called, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
                    where = f"{path}:{node.lineno}"
                    assert not called.startswith("pickle."), where
                    assert called != "torch.load" or given.get("weights_only") == "True", where
                    assert called != "np.load" or given.get("allow_pickle") == "False", where
