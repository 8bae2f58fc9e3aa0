"""Patterns that procedural images are made of: each turns a canvas into brightness ``(N, S, S)``, about 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robustad.synthesis.scenes.canvas import Canvas

Pattern = Callable[[Canvas], Tensor]
_TAU = 2 * math.pi


def _step(values: Tensor, width: float) -> Tensor:
    """A soft step from 0 to 1 at 0, ``width`` wide."""
    return (0.5 + values / width).clamp(0, 1)


def _saw(values: Tensor) -> Tensor:
    """Distance to the nearest whole number, 0 to 0.5."""
    return (values - values.round()).abs()


def _warped(canvas: Canvas, amount: float) -> tuple[Tensor, Tensor]:
    """The pattern's coordinates, bent by smooth noise."""
    bend = amount * canvas.field(3, 6)
    return canvas.x + bend, canvas.y + bend.transpose(1, 2)  # another field, at no cost


def grating(canvas: Canvas) -> Tensor:
    """One to three waves, soft or hard-edged: gratings, corduroy, ribs, moire."""
    total = torch.zeros(())
    first = canvas.uniform(0, math.pi)
    count = 1 + int(canvas.uniform(0, 3))
    x, y = _warped(canvas, canvas.log(0.001, 0.02))
    for number in range(count):
        angle, frequency = first + number * canvas.uniform(0.3, 1.6), canvas.log(2, 24)
        phase = _TAU * (frequency * (math.cos(angle) * x + math.sin(angle) * y) + canvas.uniform(0, 1))
        total = total + phase.sin()
    hardness = canvas.log(0.3, 8)
    return 0.5 + 0.5 * (hardness * total / count).tanh() / math.tanh(hardness)


def weave(canvas: Canvas) -> Tensor:
    """Threads that go over and under each other: cloth, mesh, carbon fibre."""
    frequency, twill = canvas.log(5, 22), canvas.chance(0.4)
    x, y = _warped(canvas, canvas.log(0.001, 0.01))
    x, y = frequency * x, frequency * canvas.uniform(0.7, 1.4) * y
    warp, weft = 1 - 2 * _saw(x + 0.5), 1 - 2 * _saw(y + 0.5)  # 1 in the middle of a thread
    period = 4.0 if twill else 2.0
    over = (x.floor() + y.floor()) % period < period / 2
    gap = canvas.uniform(0, 0.5)
    height = torch.where(over, warp, weft)
    tone = torch.where(over, 1.0, canvas.uniform(0.4, 1.0))
    return tone * ((height - gap) / (1 - gap)).clamp_min(0)


def fractal(canvas: Canvas) -> Tensor:
    """Noise over all scales, smooth or rough: clouds, cast metal, paper, stone."""
    first = int(canvas.uniform(2, 5))
    sides = [first * 2**octave for octave in range(5) if first * 2**octave <= canvas.size // 2]
    noise = canvas.field(*sides, slope=canvas.uniform(0.35, 1.0))
    if canvas.chance(0.3):
        return 1 - noise.abs() / 2  # veins
    return 0.5 + 0.22 * noise


def brushed(canvas: Canvas) -> Tensor:
    """Long streaks in one direction: ground and rolled metal, wood fibre."""
    long = int(canvas.uniform(1, 6))
    fine = canvas.size // 2 if canvas.chance(0.6) else canvas.size // 4
    sides = [(fine, long), (fine // 3, long + 1)]
    sides = sides if canvas.chance(0.5) else [(width, height) for height, width in sides]
    return 0.5 + 0.2 * canvas.field(*sides, slope=canvas.uniform(0.3, 1.2))


def bricks(canvas: Canvas) -> Tensor:
    """Cells with joints, each of its own tone: bricks, tiles, leather grain, crystals where they are bent."""
    frequency, bend = canvas.log(2.5, 14), canvas.chance(0.5) * canvas.log(0.005, 0.08)
    x, y = _warped(canvas, bend) if bend else (canvas.x, canvas.y)
    y = frequency * y
    x = frequency * canvas.uniform(0.4, 1.2) * x + canvas.uniform(0, 0.5) * y.floor()
    joint = canvas.log(0.01, 0.2)
    edge = torch.minimum(_saw(x), _saw(y))
    spread = canvas.uniform(0.05, 0.8)
    tone = 1 - spread * canvas.cells(x, y)
    return tone * (1 - canvas.uniform(0.2, 1.0) * (1 - _step(edge - joint, 0.05)))


def lattice(canvas: Canvas) -> Tensor:
    """Dots or holes on a grid, some of them missing: perforated plates, ball grids, studs."""
    frequency, radius = canvas.log(2.5, 14), canvas.uniform(0.15, 0.45)
    x, y = frequency * canvas.x, frequency * canvas.y
    x = x + 0.5 * (y.round() % 2) * canvas.chance(0.4)
    distance = torch.hypot(x - x.round(), y - y.round())
    present = canvas.cells(x + 0.5, y + 0.5) < (1.0 if canvas.chance(0.5) else canvas.uniform(0.3, 0.9))
    dot = _step(radius - distance, 0.02 + 0.01 * frequency)
    ring = _step(canvas.uniform(0.2, 0.8) * radius - distance, 0.02 + 0.01 * frequency) * canvas.chance(0.4)
    return (dot - canvas.uniform(0.3, 1.0) * ring) * present


def circuit(canvas: Canvas) -> Tensor:
    """Parallel tracks with bends of 45 degrees, pads with holes: printed circuits."""
    frequency, width = canvas.log(4, 13), canvas.uniform(0.12, 0.3)
    nearest: Tensor | None = None
    pads = torch.zeros(())
    for _ in range(2 + int(canvas.uniform(0, 4))):
        spread = canvas.vary * 0.5
        dx = canvas.frame_x - canvas.uniform(-0.2, 1.2) + canvas.own(-spread, spread)
        dy = canvas.frame_y - canvas.uniform(-0.2, 1.2) + canvas.own(-spread, spread)
        a, b = dx.abs(), dy.abs()
        octagon = torch.maximum(torch.maximum(a, b), 0.7071 * (a + b))
        nearest = octagon if nearest is None else torch.minimum(nearest, octagon)
        radius = canvas.log(0.02, 0.09)
        disc = torch.hypot(dx, dy) if canvas.chance(0.6) else torch.maximum(a, b)
        pad = _step(radius - disc, 0.012) - _step(canvas.uniform(0, 0.6) * radius - disc, 0.012)
        pads = torch.maximum(pads, pad)
    assert nearest is not None
    straight = canvas.frame_x - 0.5 + 0.5 * (2 * (canvas.frame_y % 0.5 - 0.25).abs()).clamp(0.1, 0.4)
    track = frequency * (nearest if canvas.chance(0.7) else straight.abs() + canvas.own(0, canvas.vary))
    present = canvas.table(31)[track.round().long().clamp(0, 30)] < canvas.uniform(0.5, 1.0)
    lines = _step(width - _saw(track), 0.02 * frequency) * present
    return torch.maximum(lines, pads)


def rings(canvas: Canvas) -> Tensor:
    """Bent rings around a far or near centre: wood, turned metal, contour lines."""
    reach = canvas.uniform(0, 2)
    x, y = canvas.frame_x - canvas.uniform(-reach, 1 + reach), canvas.frame_y - canvas.uniform(-reach, 1 + reach)
    radius = torch.hypot(canvas.uniform(0.3, 1.0) * x, y) + canvas.log(0.003, 0.06) * canvas.field(2, 4, 8)
    wave = (_TAU * canvas.log(3, 20) * radius + canvas.own(0, _TAU * canvas.vary)).sin()
    return 0.5 + 0.5 * wave if canvas.chance(0.5) else (0.5 + 0.5 * wave).square()


def panel(canvas: Canvas) -> Tensor:
    """A cell with bars, fine fingers, cut corners and uneven brightness: solar cells, displays, heat sinks."""
    x, y = canvas.frame_x, canvas.frame_y
    bars, width = 1 + int(canvas.uniform(0, 5)), canvas.log(0.008, 0.04)
    across, along = (x, y) if canvas.chance(0.5) else (y, x)
    bar = _step(width - _saw(bars * across + 0.5) / bars, 0.01)
    finger = 0.5 + 0.5 * (_TAU * canvas.log(15, 50) * along).cos()
    a, b = (x - 0.5).abs(), (y - 0.5).abs()
    border = torch.maximum(torch.maximum(a, b), a + b - canvas.uniform(0.3, 0.5))
    inside = _step(canvas.uniform(0.47, 0.52) - border, canvas.log(0.01, 0.08))
    cloud = 1 + canvas.log(0.02, 0.25) * canvas.field(2, 5, 10, vary=1.0)
    cell = (1 - canvas.uniform(-0.3, 0.9) * bar) * (1 - canvas.uniform(0, 0.25) * finger) * cloud
    return 0.8 * inside * cell


def part(canvas: Canvas) -> Tensor:
    """An object with holes and bars on a plain ground: machined and moulded parts, pills, caps."""
    x, y = canvas.frame_x - 0.5, canvas.frame_y - 0.5
    tilt = canvas.own(-math.pi, math.pi) if canvas.chance(0.15) else canvas.own(-0.03, 0.03)
    x, y = tilt.cos() * x + tilt.sin() * y, tilt.cos() * y - tilt.sin() * x
    power, aspect = canvas.log(1.2, 8), canvas.log(0.5, 2)
    size = canvas.uniform(0.28, 0.46)
    a, b = (x * math.sqrt(aspect)).abs(), (y / math.sqrt(aspect)).abs()
    radius = (a.clamp_min(1e-4).pow(power) + b.clamp_min(1e-4).pow(power)).pow(1 / power)
    body = _step(size - radius, 0.015)
    tone = canvas.uniform(0.5, 1.0) + canvas.uniform(-0.5, 0.3) * (radius / size).clamp_max(1)
    for _ in range(int(canvas.uniform(0, 6))):
        cx, cy, own = canvas.uniform(-0.6, 0.6) * size, canvas.uniform(-0.6, 0.6) * size, canvas.log(0.03, 0.15)
        feature = torch.hypot(x - cx, y - cy) if canvas.chance(0.6) else torch.maximum((x - cx).abs(), (y - cy).abs())
        tone = tone + canvas.uniform(-0.7, 0.4) * _step(own - feature, 0.015)
    ground = canvas.uniform(0, 0.3) if canvas.chance(0.7) else canvas.uniform(0.7, 1.0)
    return ground + (tone - ground) * body


def speckle(canvas: Canvas) -> Tensor:
    """Spots and pores of one size: foam, concrete, terrazzo, sandpaper."""
    side = int(canvas.log(10, canvas.size // 2))
    noise = canvas.field(side, slope=1.0, vary=max(canvas.vary, 0.3))
    spots = _step(noise - canvas.uniform(0.2, 1.8), canvas.log(0.2, 2.0))
    return canvas.uniform(0.2, 0.9) + canvas.uniform(0.2, 0.6) * (1 if canvas.chance(0.5) else -1) * spots


def barcode(canvas: Canvas) -> Tensor:
    """Stripes of random tone in one direction: striped cloth, laminations, fins, print."""
    frequency = canvas.log(6, 40)
    position = frequency * (canvas.x + canvas.log(0.001, 0.01) * canvas.field(3, 6))
    tones = canvas.table(61)
    tones = tones if canvas.chance(0.5) else tones.round()
    low = tones[position.floor().long() % 61]
    blend = _step(position - position.floor() - 0.9, 0.2)
    return low + (tones[(position.floor().long() + 1) % 61] - low) * blend


def fibres(canvas: Canvas) -> Tensor:
    """A few long bent lines over each other: hair, cracks of glaze, veins, scratches that are normal here."""
    lines = torch.zeros(())
    bend = canvas.log(0.005, 0.06) * canvas.field(3, 6)
    main, spread = canvas.uniform(0, math.pi), canvas.uniform(0, math.pi / 2)
    for _ in range(4 + int(canvas.uniform(0, 8))):
        angle = main + spread * canvas.uniform(-1, 1) + canvas.vary * canvas.own(-0.5, 0.5)
        place = canvas.uniform(-0.6, 0.6) + canvas.vary * canvas.own(-0.5, 0.5)
        across = angle.cos() * (canvas.frame_x - 0.5) + angle.sin() * (canvas.frame_y - 0.5) - place + bend
        lines = torch.maximum(lines, _step(canvas.log(0.004, 0.02) - across.abs(), 0.01))
    return 0.5 + (0.5 if canvas.chance(0.5) else -0.5) * lines


def plain(canvas: Canvas) -> Tensor:
    """Next to nothing: sheets, glass, coated and painted surfaces."""
    return 0.5 + 0.06 * canvas.field(2, 4, vary=1.0)


PATTERNS: dict[str, Pattern] = {
    "grating": grating,
    "weave": weave,
    "fractal": fractal,
    "brushed": brushed,
    "bricks": bricks,
    "lattice": lattice,
    "circuit": circuit,
    "rings": rings,
    "panel": panel,
    "part": part,
    "speckle": speckle,
    "barcode": barcode,
    "fibres": fibres,
    "plain": plain,
}
