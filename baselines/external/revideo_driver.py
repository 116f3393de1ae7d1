"""Driver of ReVideo (Mou et al., arXiv 2405.13865): a rectangle of 14 frames is made anew from an edited first frame, window by window.

Imports the scripts for inference of the user's checkout of MC-E/ReVideo and calls them as their command line would. Networks are loaded
once; a later window finds torch's random state as it is after loading, so it gets the noise that a process of its own would draw. In these
scripts' arguments ``h`` is the x axis and ``w`` the y axis.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import TYPE_CHECKING, Any, Callable  # noqa: UP035 (Python 3.8)

import cv2
import numpy as np

if TYPE_CHECKING:
    from vpbench.baselines.external import checkout_driver, vpbench_worker
    from vpbench.baselines.external.revideo_geometry import FRAMES, points, rectangle, windows
else:
    import checkout_driver
    import vpbench_worker
    from revideo_geometry import FRAMES, points, rectangle, windows

MOVING = ("change", "swap")  # operations that keep the motion of what is there
FPS, BUCKET, AUGMENTATION = 10, 127, 0.02  # of ReVideo's own examples: frame rate, motion strength, noise on the first frame


class Once:
    """What loads networks, made to load each once; torch's random state after each later call is that after the first."""

    def __init__(self, load: Callable[..., Any]) -> None:
        self.load = load
        self.kept: dict[Any, Any] = {}

    def __call__(self, *args: Any) -> Any:
        """Load, or return what was loaded with these arguments and this seed."""
        import torch

        key = (args, torch.initial_seed())
        if key not in self.kept:
            self.kept = {
                key: (self.load(*args), torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])
            }
        made, host, devices = self.kept[key]
        torch.set_rng_state(host)
        if devices:
            torch.cuda.set_rng_state_all(devices)
        return made


class Editor:
    """Imports ReVideo's scripts when they are first needed."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.scripts: dict[str, Any] = {}
        self.load: Any = None
        self.hub: Any = None
        self.tracker: Any = None

    def __call__(self, job: vpbench_worker.Job) -> dict[str, Any]:
        """Edit a clip."""
        os.chdir(job.work)  # the scripts write into folders below the current one
        for folder in ("ckpt", "outputs", "vis_im"):
            os.makedirs(folder, exist_ok=True)
        os.symlink(self.settings["ckpt"], "ckpt/model.ckpt")  # where the scripts would download it to
        masks = np.stack([np.asarray(cv2.imread(path, cv2.IMREAD_GRAYSCALE)) > 128 for path in job.masks])
        kind = "sample_constant_motion" if job.operation in MOVING else "sample_single_region"
        reference, cut = os.path.join(job.folder, "first_edited.png"), windows(len(masks))
        made = []
        for number, (start, stop) in enumerate(cut):
            chosen = [min(t, len(masks) - 1) for t in range(start, stop)]
            seen = masks[sorted(set(chosen))]
            box, tracked, script = rectangle(seen), points(seen[0]), kind
            if not tracked:  # nothing to follow in the window's first frame
                tracked, script = [((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)], "sample_single_region"
            folder = os.path.join(job.work, str(number), f"{job.sample}_{number}")
            os.makedirs(folder)
            for i, t in enumerate(chosen):
                shutil.copyfile(job.sources[t], os.path.join(folder, f"{i:05}.png"))
            pictures = self._window(script, folder, reference, box, tracked, job.seed)
            for i in range(1 if number else 0, len(pictures)):
                if start + i < len(masks):
                    shutil.copyfile(pictures[i], job.outs[start + i])
            reference = pictures[-1]
            made.append({"window": [start, min(stop, len(masks))], "script": script, "rectangle_xyxy": box, "points_xy": tracked})
        height, width = np.asarray(cv2.imread(job.outs[0])).shape[:2]
        padded = cut[-1][1] > len(masks)
        return {
            "frames_written": len(masks),
            "native": {"width": width, "height": height, "frames": FRAMES},
            "windows": [one["window"] for one in made],
            "driven": made,
            "composited": False,
            "peak_gpu_bytes": checkout_driver.peak_gpu_bytes(),
            "code": self.settings["commit"],
            "notes": [f"padded: the last window of {FRAMES} frames ends with the clip's last one repeated"] if padded else [],
        }

    def _window(self, script: str, folder: str, reference: str, box: Any, tracked: Any, seed: int) -> list[str]:
        """Run a script on 14 frames; paths of what it made."""
        xs, ys = [x for x, _ in tracked], [y for _, y in tracked]
        where = {"s_h": box[0], "s_w": box[1], "e_h": box[2], "e_w": box[3], "ps_h": xs, "ps_w": ys}
        if script == "sample_single_region":
            where.update(pe_h=xs, pe_w=ys, x_bias=[0], y_bias=[0])
        self._script(script).sample(
            input_path=folder,
            path_ref=reference,
            ckpt=self.settings["ckpt"],
            config=os.path.join(self.settings["code"], "configs", "inference", "config_test.yaml"),
            num_frames=FRAMES,
            num_steps=self.settings["steps"],
            fps_id=FPS,
            motion_bucket_id=BUCKET,
            cond_aug=AUGMENTATION,
            seed=seed,
            decoding_t=1,
            device=self._device(),
            output_folder=os.path.join(os.path.dirname(folder), "save"),
            save_fps=FPS,
            resize=True,
            **where,
        )
        made = os.path.join("vis_im", os.path.basename(folder), "im_wo_track")
        paths = [os.path.abspath(os.path.join(made, f"{i:04}.png")) for i in range(FRAMES)]
        missing = [path for path in paths if not os.path.isfile(path)]
        if missing:
            raise RuntimeError(f"ReVideo did not write {missing[0]}")
        return paths

    def _script(self, name: str) -> Any:
        if name not in self.scripts:
            import torch

            path = os.path.join(self.settings["code"], "main", "inference", f"{name}.py")
            spec = importlib.util.spec_from_file_location(f"revideo_{name}", path)
            if spec is None or spec.loader is None:
                raise ImportError(path)
            module: Any = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            if self.load is None:
                self.load = Once(module.load_model)
            module.load_model = self.load
            if self.hub is None:
                hub: Any = torch.hub
                self.hub, hub.load = hub.load, self._hub
            self.scripts[name] = module
        return self.scripts[name]

    def _hub(self, repository: str, model: str) -> Any:
        """In the place of ``torch.hub.load``: the same from a checkout. Some of its versions mean CoTracker 3 by CoTracker 2's name."""
        if self.tracker is None:
            tracker = self.hub(self.settings["cotracker"], model, source="local")
            kind = type(tracker.model).__name__
            if kind != "CoTracker2":
                raise RuntimeError(
                    f"{self.settings['cotracker']}: its {model} is {kind}; ReVideo needs CoTracker2. Check another commit out (docs)."
                )
            self.tracker = tracker
        return self.tracker

    def _device(self) -> str:
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    vpbench_worker.run(Editor(checkout_driver.settings()))
