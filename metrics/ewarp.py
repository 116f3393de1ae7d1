"""Flow warping error with RAFT: does the video move as a flow says? Smaller is better, shown times 1000.

The definition is that of ``warping`` (Lai et al. 2018), with RAFT-large (Teed and Deng 2020; torchvision's network and its weights
``C_T_SKHT_V2``, 12 updates) in place of FlowNet2, so values compare only with each other. Three variants:

* ``Ewarp()``: the prediction along the flow of the reference; for completion, and for the background of an edit.
* ``Ewarp(flow="prediction")``: the prediction along its own flow. Where content is replaced the reference's flow says nothing; this one
  needs no true answer, and rewards what hardly moves.
* ``Ewarp(subject="reference")``: the reference along its own flow: the floor under both, the same for every model.

Frames whose sides are under 128 pixels or no multiple of 8 are padded at the bottom and at the right by repeating the border; the flow
there is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames
from vpbench.errors import ConfigError
from vpbench.measuring import Arrays, Comparison, Measure, Network, Part
from vpbench.metrics.batching import batch_size, in_batches
from vpbench.metrics.options import check_options
from vpbench.metrics.warping import FlowChunk, Flows, Subject, WarpMetric, clip_sums, video_of
from vpbench.weights import WeightsError, label, locate

if TYPE_CHECKING:
    from torch import nn

RAFT = Network("raft-large")
NETWORKS = (RAFT.name,)
UPDATES = 12
SMALLEST = 128  # pixels; the correlation pyramid has four levels, of 1/8 to 1/64 of the frame
MULTIPLE = 8  # pixels; what the network divides the frame by
CPU_BATCH = 1  # one direction of one pair; two take twice the memory and the same time
RANDOM_FLOW = 0.1  # scale of the flow of random weights: small enough that the two directions agree and pixels are visible


@lru_cache(maxsize=2)
def load(network: Network, device: str) -> nn.Module:
    """Return RAFT with its weights, ready to run; loaded once per process.

    Raises:
        WeightsError: the weights are missing, damaged or of another network.
    """
    import torch
    from torchvision.models.optical_flow import raft_large

    weights = locate(network)
    with torch.random.fork_rng(devices=[]):  # building draws initial weights, with or without a file
        torch.default_generator.manual_seed(weights.seed or 0)
        raft = raft_large(weights=None, progress=False)
    if weights.path is None:
        with torch.no_grad():
            for parameter in raft.update_block.flow_head.conv2.parameters():
                parameter.mul_(RANDOM_FLOW)
    else:
        try:
            raft.load_state_dict(torch.load(weights.path, map_location="cpu", weights_only=True))
        except Exception as error:  # zipfile, pickle and torch raise a dozen unrelated types here
            raise WeightsError(f"{weights.path}: not the weights of {network.name} ({error}). Name the file of that network.") from error
    ready: nn.Module = raft.eval().requires_grad_(False).to(device)
    return ready


def raft_flows(raft: nn.Module, frames: Frames, device: str) -> tuple[Flows, Flows]:
    """Return the flow of consecutive frames in both directions, rounded to float16.

    Args:
        raft: torchvision's network, on ``device``.
        frames: uint8 (T, H, W, 3) RGB, T at least 2.
        device: a torch device.

    Returns:
        Forward and backward flow, each float16 (T - 1, H, W, 2), pixels, order (x, y).
    """
    import torch

    height, width = frames.shape[1:3]
    wanted = [max(SMALLEST, -(-size // MULTIPLE) * MULTIPLE) for size in (height, width)]
    padded = np.pad(frames, ((0, 0), (0, wanted[0] - height), (0, wanted[1] - width), (0, 0)), mode="edge")

    def images(at: NDArray[np.intp]) -> torch.Tensor:
        return torch.from_numpy(padded[at]).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1

    def directions(part: slice) -> NDArray[np.float16]:
        pair, backward = np.divmod(np.arange(part.start, part.stop), 2)
        flow = raft(images(pair + backward), images(pair + 1 - backward), num_flow_updates=UPDATES)[-1]
        found: NDArray[np.float16] = flow[..., :height, :width].permute(0, 2, 3, 1).cpu().numpy().astype(np.float16)
        return found

    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        size = batch_size(device, CPU_BATCH, _cuda_bytes(*wanted))
        flows: Flows = np.asarray(in_batches(directions, 2 * (len(frames) - 1), size), np.float16)
    return flows[0::2], flows[1::2]


@dataclass(frozen=True)
class RaftFlow(FlowChunk):
    """The measure: RAFT's flow of a chunk of frame pairs, see ``FlowChunk``.

    Attributes:
        first: the first pair; pair t is frames t and t + 1.
        subject: whose flow.
        network: RAFT and its weights.
    """

    network: Network = RAFT

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        return f"raft_flow-{label(self.network)}-u{UPDATES}-f32-{self.subject}-{self.pairs}-v1"

    @property
    def networks(self) -> tuple[Network, ...]:
        """RAFT."""
        return (self.network,)

    def flows(self, frames: Frames, device: str) -> tuple[Flows, Flows]:
        """Return forward and backward flow, each float16 (T - 1, H, W, 2)."""
        return raft_flows(load(self.network, device), frames, device)


@dataclass(frozen=True)
class WarpErrorRaft(Measure):
    """The measure: sums of one video along RAFT's flow, see ``clip_sums``.

    Attributes:
        subject: the video whose error it is.
        flow: the video along whose flow it is warped.
        network: RAFT and its weights.
    """

    subject: Subject = "prediction"
    flow: Subject = "reference"
    network: Network = RAFT

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        return f"ewarp-{self.subject}-along-{self.flow}-{label(self.network)}-u{UPDATES}-f32-v1"

    @property
    def reads(self) -> frozenset[Part]:
        """The masks and the videos of ``subject`` and ``flow``."""
        return frozenset((self.subject, self.flow, "masks"))

    @property
    def networks(self) -> tuple[Network, ...]:
        """RAFT."""
        return (self.network,)

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[np.generic]]:
        """Return the sums of one comparison.

        Raises:
            WeightsError: the weights are missing, damaged or of another network.
        """

        def flow_of(first: int) -> Arrays:
            chunk = RaftFlow(first, self.flow, self.network)
            # Only this pass reads the prediction's flow, so it is not worth 2 MB of disk per frame and model.
            return comparison.arrays(chunk, keep=False) if self.flow == "reference" else chunk(comparison)

        return clip_sums(video_of(comparison, self.subject), comparison.masks, flow_of)


@dataclass(frozen=True)
class Ewarp(WarpMetric):
    """Flow warping error in one region, with RAFT; see the module's text.

    Attributes:
        region: ``frame``, ``hole`` or ``background``.
        name: a column is ``name[region]``.
        flow: the video along whose flow is warped: ``reference``, or ``prediction`` (that of the prediction itself).
        subject: the video that is warped: ``prediction``, or ``reference`` along its own flow (the floor).
        network: ``raft-large``.
        weights: empty for the table's file, the path of a file, or ``random-<seed>``.

    Raises:
        ConfigError: another region, flow, subject or network; or the reference along the prediction's flow.
    """

    name: str = "ewarp"
    flow: Subject = "reference"
    subject: Subject = "prediction"
    network: str = RAFT.name
    weights: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, flow=get_args(Subject), subject=get_args(Subject), network=NETWORKS)
        if (self.subject, self.flow) == ("reference", "prediction"):
            raise ConfigError(f"{self.name}: the reference is warped along its own flow: flow=reference.")

    @property
    def needs_truth(self) -> bool:  # type: ignore[override]
        """Whether the true answer is compared with: not where a video is warped along its own flow."""
        return self.subject != self.flow

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        return f"mean_of_pairs,subject={self.subject},flow={self.flow},updates={UPDATES}"

    @property
    def measure(self) -> WarpErrorRaft:
        """The pass that gives the sums."""
        return WarpErrorRaft(self.subject, self.flow, Network(self.network, self.weights))


def _cuda_bytes(height: int, width: int) -> int:
    """Device memory of one direction of one pair, from above: the correlations of all cells with all, and the encoders' features."""
    cells = (height // MULTIPLE) * (width // MULTIPLE)
    return 4 * 4 * cells**2 + 4000 * height * width
