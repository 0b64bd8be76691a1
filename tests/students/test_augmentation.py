"""Random crops, mirror images and light: read back from pictures that hold their own coordinates, or done in numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import kstest, pearsonr

from clip_factory.students.augmentation import Augmentation, augment, resize

STILL = Augmentation(min_crop=1.0, aspect=1.0, flip=0.0, light=0.0, color=0.0)
SIDE = 51
"""Of the pictures: a pixel's value is five times its column or row."""


@dataclass(frozen=True)
class Windows:
    """What crops have kept, as shares of the side; arrays have a row for each picture."""

    width: np.ndarray
    height: np.ndarray
    across: np.ndarray
    """Where the middle lies, from -1 to 1 of what the window leaves free."""
    down: np.ndarray
    mirrored: np.ndarray


def windows(augmentation: Augmentation, count: int = 1200, size: int = 16) -> Windows:
    """Crop pictures whose red is the column and whose green is the row, and read the windows off the result."""
    ramp = np.arange(SIDE, dtype=np.uint8) * 5
    picture = np.stack(np.broadcast_arrays(ramp[None, :], ramp[:, None], ramp[:1, None]), axis=-1)
    batch = torch.from_numpy(np.repeat(picture[None], count, axis=0))
    out = augment(batch, size, augmentation, torch.Generator().manual_seed(3)).numpy() / 5
    columns, rows = out[:, 0, size // 2, :], out[:, 1, :, size // 2]
    # differences of neighbors near the middle: the outermost half pixel of a picture is flat
    step_x, step_y = (np.median(np.diff(line, axis=1), axis=1) for line in (columns, rows))
    width, height = np.abs(step_x) * size / SIDE, np.abs(step_y) * size / SIDE
    middles = [line[:, size // 2 - 1 : size // 2 + 1].mean(axis=1) + 0.5 for line in (columns, rows)]
    free = [np.maximum(1 - side, 1e-9) for side in (width, height)]
    across, down = ((2 * middle / SIDE - 1) / gap for middle, gap in zip(middles, free, strict=True))
    return Windows(width, height, across, down, step_x < 0)


@pytest.mark.parametrize("min_crop", [0.2, 0.6])
def test_crops_keep_a_uniform_share_of_the_area(min_crop: float) -> None:
    found = windows(replace(STILL, min_crop=min_crop))
    area = found.width * found.height

    assert found.width == pytest.approx(found.height, abs=1e-3), "no aspect was asked for"
    assert kstest(area, "uniform", (min_crop, 1 - min_crop)).pvalue > 0.01
    assert area.min() >= min_crop - 1e-3 and area.max() <= 1 + 1e-3


def test_crops_are_wider_or_taller_by_the_aspect() -> None:
    found = windows(replace(STILL, min_crop=0.2, aspect=1.5))
    whole = (found.width * found.height) < 0.6  # of these no side is as long as the picture, which cuts it off
    logs = np.log(found.width / found.height)[whole]

    assert kstest(logs, "uniform", (-np.log(1.5), 2 * np.log(1.5))).pvalue > 0.01
    assert abs(pearsonr(logs, (found.width * found.height)[whole]).statistic) < 0.08
    assert max(found.width.max(), found.height.max()) <= 1 + 1e-3
    assert not found.mirrored.any()


def test_windows_lie_anywhere_in_the_picture() -> None:
    found = windows(replace(STILL, min_crop=0.2))
    small = found.width < 0.8

    for place in (found.across[small], found.down[small]):
        assert kstest(place.clip(-1, 1), "uniform", (-1, 2)).pvalue > 0.01
        assert np.abs(place).max() <= 1.02
    assert abs(pearsonr(found.across[small], found.down[small]).statistic) < 0.08


@pytest.mark.parametrize("flip", [0.0, 0.3, 1.0])
def test_mirror_images_come_as_often_as_asked(flip: float) -> None:
    assert windows(replace(STILL, flip=flip)).mirrored.mean() == pytest.approx(flip, abs=0.03)
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    mirrored = augment(images, 32, replace(STILL, flip=1.0), torch.Generator())
    assert torch.allclose(mirrored, resize(images.flip(2), 32), atol=1e-2)


def test_light_and_color_vary_as_worked_out_by_hand() -> None:
    """Brightness scales all, contrast moves gray away from its mean, saturation colors away from gray."""
    count, images = 400, torch.randint(40, 200, (400, 8, 8, 3), dtype=torch.uint8)
    drawn = torch.Generator().manual_seed(5)
    for _ in range(2):  # area and aspect
        torch.rand(count, generator=drawn)
    torch.rand(count, 2, generator=drawn)  # where the windows lie
    torch.rand(count, generator=drawn)  # mirrored or not
    unit = [torch.rand(count, generator=drawn).double().numpy() for _ in range(3)]
    brightness, contrast = (1 + 0.2 * (2 * u - 1) for u in unit[:2])
    saturation = 1 + 0.5 * (2 * unit[2] - 1)
    x = images.permute(0, 3, 1, 2).double().numpy()
    gray = x.mean(axis=1, keepdims=True)
    mean = gray.mean(axis=(2, 3), keepdims=True)
    b, c, s = (factor[:, None, None, None] for factor in (brightness, contrast, saturation))
    wanted = np.clip(b * (mean + c * (gray - mean) + c * s * (x - gray)), 0, 255)
    found = augment(images, 8, replace(STILL, light=0.2, color=0.5), torch.Generator().manual_seed(5))

    assert found.numpy() == pytest.approx(wanted, abs=2e-2)
    assert (wanted == 255).any(), "some is cut off"


def test_a_white_wall_stays_white_up_to_its_edges() -> None:
    images = torch.full((20, 32, 32, 3), 255, dtype=torch.uint8)
    how = replace(STILL, min_crop=0.3, aspect=1.3, flip=0.5)

    assert augment(images, 40, how, torch.Generator()).min() > 254.9


def test_augmentation_repeats_and_keeps_range_size_and_layout() -> None:
    images = torch.randint(0, 256, (5, 48, 48, 3), dtype=torch.uint8)

    def once(seed: int) -> torch.Tensor:
        return augment(images, 32, Augmentation(), torch.Generator().manual_seed(seed))

    assert once(1).shape == (5, 3, 32, 32)
    assert once(1).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))
    assert 0 <= once(1).min() <= once(1).max() <= 255


def test_no_augmentation_is_the_image_itself() -> None:
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    assert torch.allclose(augment(images, 32, STILL, torch.Generator()), resize(images, 32), atol=1e-2)


@pytest.mark.parametrize("size", [24, 48, 72])
def test_resizing_is_pillows(size: int) -> None:
    """Antialiased bilinear, which for Pillow means rounding to whole values, twice."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (2, 48, 48, 3)).astype(np.uint8)
    found = resize(torch.from_numpy(pixels), size)
    wanted = [np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.BILINEAR)) for p in pixels]

    assert found.shape == (2, 3, size, size) and found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found.permute(0, 2, 3, 1).numpy() == pytest.approx(np.stack(wanted).astype(float), abs=1.01)
