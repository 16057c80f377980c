"""Paints a picture for each section: a landscape in layers, its colours and shapes drawn from the section's words.

The same words give the same picture. It is handed over as a ``data:`` address of some 30 kB inside the lesson, so it
is stored, erased and expires with its task, and needs no disk that the app's processes share.
"""

from __future__ import annotations

import base64
import io
import textwrap
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .lesson import Picture, Section

WIDTH, HEIGHT = 960, 540
RIDGES = 6
SHORE = 0.7  # where the water begins, in the pictures that have a lake
QUALITY = 80
MARGIN = 44

Colour = tuple[int, int, int]
Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of a time of day. ``name`` is spoken in the picture's text alternative."""

    name: str
    top: Colour
    horizon: Colour
    light: Colour
    near: Colour
    night: bool = False


PALETTES = (
    Palette("dawn", (52, 73, 122), (255, 194, 158), (255, 240, 214), (38, 42, 74)),
    Palette("noon", (64, 134, 190), (222, 239, 240), (255, 252, 235), (22, 74, 84)),
    Palette("golden hour", (120, 84, 130), (255, 186, 96), (255, 236, 178), (62, 34, 56)),
    Palette("dusk", (38, 32, 84), (236, 112, 120), (255, 206, 170), (24, 18, 46)),
    Palette("moonlight", (8, 16, 42), (66, 98, 142), (232, 240, 255), (6, 12, 28), night=True),
    Palette("aurora", (6, 18, 38), (38, 120, 122), (214, 255, 232), (4, 22, 30), night=True),
    Palette("autumn", (104, 128, 140), (250, 214, 160), (255, 244, 214), (86, 38, 28)),
    Palette("spring", (98, 160, 170), (244, 236, 198), (255, 253, 230), (28, 72, 54)),
)


def paint(section: Section) -> Picture:
    """The picture of a section."""
    seed = zlib.crc32(" ".join((section.title, *section.keywords)).encode())
    random = np.random.default_rng(seed)
    palette = PALETTES[section.number * 3 % len(PALETTES)]  # eight sections, eight times of day
    image = Image.fromarray(_landscape(palette, random))
    _letter(image, section)
    data = io.BytesIO()
    image.save(data, "WEBP", quality=QUALITY, method=4)
    url = "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode("ascii")
    return Picture(url, f"A painted landscape at {palette.name}: “{section.title}”", WIDTH, HEIGHT)


def _landscape(palette: Palette, random: np.random.Generator) -> NDArray[np.uint8]:
    x = np.linspace(0, WIDTH / HEIGHT, WIDTH, dtype=np.float32)[None, :]
    y = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None]
    horizon = float(random.uniform(0.5, 0.62))
    sun = float(random.uniform(0.3, 1.5)), float(random.uniform(0.16, horizon - 0.1))

    picture = _mix(palette.top, palette.horizon, np.clip(y / horizon, 0, 1)[..., None] ** 1.3)
    picture = np.broadcast_to(picture, (HEIGHT, WIDTH, 3)).copy()
    if palette.night:
        _stars(picture, horizon, random)
    _shine(picture, palette, np.hypot(x - sun[0], y - sun[1]))
    lake = bool(random.integers(0, 2))
    for layer in range(RIDGES - 2 if lake else RIDGES):
        depth = layer / (RIDGES - 1)
        base = horizon + ((SHORE if lake else 1) - horizon) * (0.8 if not lake else 1.2) * depth**1.25
        line = base - _ridge(random, roughness=0.14 - 0.05 * depth)
        colour = _mix(palette.horizon, palette.near, np.float32(0.18 + 0.82 * depth**0.8))
        # Mist gathers at the foot of each ridge, where the next one begins.
        below = np.clip((y - line[None, :]) / 0.3, 0, 1)[..., None]
        mist = _mix(colour, palette.horizon, below * 0.35 * (1 - depth))
        covered = np.clip((y - line[None, :]) * HEIGHT, 0, 1)[..., None]  # a pixel on the edge is covered in part
        picture += (mist - picture) * covered
    if lake:
        _mirror(picture, palette, random)
    picture *= 1 - 0.35 * np.clip((y - 0.7) / 0.3, 0, 1)[..., None]  # darker below, where the title stands
    picture += random.normal(0, 1.5, (HEIGHT, WIDTH, 1)).astype(np.float32)  # grain, against bands in the sky
    return np.asarray(np.clip(picture, 0, 255), dtype=np.uint8)


def _ridge(random: np.random.Generator, *, roughness: float) -> Pixels:
    """The height of a chain of hills along the picture: waves, each twice as fine and half as high as the last."""
    x = np.linspace(0, 1, WIDTH, dtype=np.float32)
    line = np.zeros(WIDTH, dtype=np.float32)
    for octave in range(8):
        frequency = 2.2 * 2**octave * random.uniform(0.8, 1.2)
        line += np.sin(2 * np.pi * (frequency * x + random.uniform())).astype(np.float32) / 2 ** (octave * 1.12)
    return line * roughness * 0.5


def _shine(picture: Pixels, palette: Palette, distance: Pixels) -> None:
    """The sun or the moon, and the light around it."""
    light = np.array(palette.light, dtype=np.float32)
    glow = 0.55 * np.exp(-((distance / 0.3) ** 2)) + 0.25 * np.exp(-((distance / 0.8) ** 2))
    picture += (light - picture) * glow[..., None]
    disc = np.clip((0.062 - distance) * HEIGHT, 0, 1)
    picture += (light - picture) * disc[..., None]


def _stars(picture: Pixels, horizon: float, random: np.random.Generator) -> None:
    height, width, _ = picture.shape
    for _ in range(220):
        row, column = int(random.uniform(0, horizon * 0.9) * height), int(random.uniform(0, 1) * width)
        size = int(random.integers(1, 3))
        picture[row : row + size, column : column + size] += random.uniform(30, 170)


def _mirror(picture: Pixels, palette: Palette, random: np.random.Generator) -> None:
    """A lake at the foot of the hills: what stands above it, upside down, a little darker, in ripples."""
    shore = int(HEIGHT * SHORE)
    away = np.arange(HEIGHT - shore)
    ripples = np.sin(away**0.8 * random.uniform(0.7, 1.1)) * away**0.5 * 0.4
    rows = np.clip(shore - 1 - away * 1.6 - ripples, 0, shore - 1).astype(int)
    picture[shore:] = _mix(picture[rows], palette.near, np.float32(0.42))


def _letter(image: Image.Image, section: Section) -> None:
    """The section's number and title, as on a poster."""
    title = section.title
    try:
        title.encode("latin-1")  # what Pillow's own font can write
    except UnicodeEncodeError:
        title = ""
    draw = ImageDraw.Draw(image)
    lines = textwrap.wrap(title, width=26, max_lines=2, placeholder="…", break_on_hyphens=False)
    size = 46
    y = HEIGHT - MARGIN - len(lines) * (size + 8)
    draw.text((MARGIN, y - 34), f"{section.number:02d}", font=ImageFont.load_default(24), fill=(255, 255, 255))
    draw.line((MARGIN + 44, y - 19, MARGIN + 130, y - 19), fill=(255, 255, 255), width=2)
    for line in lines:
        draw.text((MARGIN, y), line, font=ImageFont.load_default(size), fill=(255, 255, 255))
        y += size + 8


def _mix(first: Colour | Pixels, second: Colour | Pixels, share: Pixels | np.float32) -> Pixels:
    a, b = np.asarray(first, dtype=np.float32), np.asarray(second, dtype=np.float32)
    return np.asarray(a + (b - a) * share, dtype=np.float32)
