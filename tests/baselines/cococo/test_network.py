"""The network has the released names and shapes, and its attentions are what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.baselines.cococo import tiny
from vpbench.baselines.cococo import parts
from vpbench.baselines.cococo.motion import HEADS, Attention, MotionModule, positions, small_size, tokens
from vpbench.baselines.cococo.unet import MOTION, TextOnce, attach, predict

WIDTHS = {
    **{f"down_blocks.{i}.motion_modules.{j}": width for i, width in enumerate((320, 640, 1280, 1280)) for j in range(2)},
    "mid_block.motion_modules.0": 1280,
    **{f"up_blocks.{i}.motion_modules.{j}": width for i, width in enumerate((1280, 1280, 640, 320)) for j in range(3)},
}


def released_shapes(width: int, text: int = 768) -> dict[str, tuple[int, ...]]:
    """The 40 parameters and 4 tables of a released motion module."""
    block = "transformer_blocks.0"
    shapes: dict[str, tuple[int, ...]] = {f"norm.{kind}": (width,) for kind in ("weight", "bias")}
    for name in ("proj_in", "proj_out"):
        shapes |= {f"{name}.weight": (width, width), f"{name}.bias": (width,)}
    for number, context, rows in ((0, width, 64), (1, width, 64), (2, width, 10_000), (3, text, 64)):
        attention = f"{block}.attention_blocks.{number}"
        shapes |= {f"{attention}.to_q.weight": (width, width), f"{attention}.pos_encoder.pe": (1, rows, width)}
        shapes |= {f"{attention}.{name}.weight": (width, context) for name in ("to_k", "to_v")}
        shapes |= {f"{attention}.to_out.0.weight": (width, width), f"{attention}.to_out.0.bias": (width,)}
    for norm in (*(f"norms.{number}" for number in range(4)), "ff_norm"):
        shapes |= {f"{block}.{norm}.{kind}": (width,) for kind in ("weight", "bias")}
    shapes |= {f"{block}.ff.net.0.proj.weight": (8 * width, width), f"{block}.ff.net.0.proj.bias": (8 * width,)}
    return {**shapes, f"{block}.ff.net.2.weight": (width, 4 * width), f"{block}.ff.net.2.bias": (width,)}


@pytest.fixture(scope="module")
def image() -> dict[str, tuple[int, ...]]:
    """Names and shapes of Stable Diffusion 1.5 inpainting's own network."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**tiny.RELEASED)
    return {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}


@pytest.fixture
def full() -> Any:
    with torch.device("meta"):
        return attach(UNet2DConditionModel(**tiny.RELEASED), device="meta")


def test_all_released_names_and_shapes_and_no_other(full: Any, image: dict[str, tuple[int, ...]]) -> None:
    expected = {
        f"{module}.temporal_transformer.{name}": shape
        for module, width in WIDTHS.items()
        for name, shape in released_shapes(width).items()
        if not name.endswith(".pe")
    }
    found = {name: tuple(tensor.shape) for name, tensor in full.state_dict().items()}
    assert len(expected) == 840
    assert len(image) == 686
    assert image["conv_in.weight"] == (320, 9, 3, 3)
    assert found == {**image, **expected}
    assert sum(tensor.numel() for tensor in full.parameters()) == pytest.approx(1465.35e6, rel=1e-5)


def test_four_files_with_all_released_tensors_load(full: Any, image: dict[str, tuple[int, ...]], tmp_path: Path) -> None:
    """924 entries of the motion modules with their tables, and the image network; at full size, of one stored value each."""
    shapes = {
        f"{module}.temporal_transformer.{name}": shape for module, width in WIDTHS.items() for name, shape in released_shapes(width).items()
    }
    assert len(shapes) == 924
    names = sorted({**shapes, **image})
    files = [tmp_path / f"model_{number}.pth" for number in range(4)]
    for number, path in enumerate(files):
        torch.save({f"module.{name}": torch.zeros(()).expand({**shapes, **image}[name]) for name in names[number::4]}, path)
    assert parts.load(full, files) == 686


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_new_parameters_have_the_networks_precision(dtype: torch.dtype) -> None:
    unet = attach(UNet2DConditionModel(**tiny.UNET).to(dtype))
    assert {parameter.dtype for parameter in unet.parameters()} == {dtype}
    made = predict(unet, torch.zeros(2, 9, 8, 8, dtype=dtype), 481, torch.zeros(77, tiny.TEXT, dtype=dtype))
    assert made.dtype == dtype
    assert made.shape == (2, 4, 8, 8)


@given(st.integers(1, 200), st.integers(1, 200))
def test_rows_alone_decide_the_small_size(height: int, width: int) -> None:
    rows, columns = small_size(height, width)
    assert rows == min(height, 12)
    assert columns == (width if height <= 12 else max(1, int(12 / height * width)))


def test_the_small_size_is_rounded_as_the_released_code_rounds() -> None:
    assert small_size(47, 47) == (12, 11)  # 12 / 47 * 47 is a little less than 12


@pytest.mark.parametrize(
    ("frames", "height", "width", "expected"),
    [(44, 45, 80, 44 * 252), (39, 30, 54, 39 * 252), (12, 60, 90, 12 * 216), (64, 64, 64, 64 * 144), (64, 80, 45, 64 * 84)],
)
def test_tokens_over_all_levels(frames: int, height: int, width: int, expected: int) -> None:
    assert tokens(frames, height, width) == expected


def test_positions_go_on_beyond_the_released_tables() -> None:
    code = positions(20_000, 64, torch.float32, torch.device("cpu"))
    assert code.shape == (20_000, 64)
    torch.testing.assert_close(code[:, 0], torch.sin(torch.arange(20_000.0)))
    torch.testing.assert_close(code[:, 1], torch.cos(torch.arange(20_000.0)))
    last = torch.arange(20_000.0) * torch.exp(torch.tensor(-62 / 64 * 9.210340371976184))
    torch.testing.assert_close(code[:, 62], torch.sin(last))


@settings(deadline=None, max_examples=20)
@given(frames=st.integers(1, 6), pixels=st.integers(1, 5), seed=st.integers(0, 1000))
def test_attention_over_frames_is_attention_of_each_pixel(frames: int, pixels: int, seed: int) -> None:
    torch.manual_seed(seed)
    attention, x = Attention(16), torch.randn(frames, pixels, 16)
    with torch.inference_mode():
        apart = torch.cat([attention(x[None, :, pixel]) for pixel in range(pixels)]).transpose(0, 1)
        torch.testing.assert_close(attention.over_frames(x), apart)


def test_words_projected_once_are_words_projected_per_frame() -> None:
    """What diffusers' own layer makes of one copy of the text per frame."""
    unet = tiny.unet()
    layer = unet.mid_block.attentions[0].transformer_blocks[0].attn2
    x, words = tiny.drawn("x", (3, 20, 96)), tiny.drawn("words", (1, 77, tiny.TEXT))
    with torch.inference_mode():
        ours = TextOnce()(layer, x, words)
        layer.set_processor(UNet2DConditionModel(**tiny.UNET).mid_block.attentions[0].transformer_blocks[0].attn2.processor)
        torch.testing.assert_close(ours, layer(x, encoder_hidden_states=words.expand(3, -1, -1)))


def test_frames_know_of_one_another_through_motion_modules_alone() -> None:
    """Another last frame changes the first; without the modules it does not."""
    unet = tiny.unet()
    given_clip, words = tiny.inputs("small", tiny.SIZES["small"])
    other = given_clip.clone()
    other[-1] += 1
    with torch.inference_mode():
        assert (predict(unet, given_clip, 481, words)[0] - predict(unet, other, 481, words)[0]).abs().max() > 1e-3
        for name, module in unet.named_modules():
            if isinstance(module, MotionModule):
                assert MOTION in f".{name}"
                module.forward = lambda x, words: x  # type: ignore[method-assign]
        torch.testing.assert_close(predict(unet, given_clip, 481, words)[0], predict(unet, other, 481, words)[0])


def test_heads_are_eight_at_every_width() -> None:
    assert HEADS == 8
    for width in set(WIDTHS.values()):
        assert width % HEADS == 0
    assert not [name for name in WIDTHS if not re.fullmatch(r"(down_blocks\.\d|mid_block|up_blocks\.\d)\.motion_modules\.\d", name)]
