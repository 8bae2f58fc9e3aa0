"""A realistic report from made images and made figures; to look at it: python report_sample.py OUT.html."""

import sys

import numpy as np
from scipy.ndimage import gaussian_filter

from robustad.metrics import auroc, f1max, roc_curve
from robustad.reporting import (
    Example,
    ExampleGroup,
    Headline,
    HealthCheck,
    MetricRow,
    MetricTable,
    Report,
    ReportFigure,
    pick_examples,
    write_report,
)
from robustad.visual import Curve, roc_curve_plot, score_histograms, security_curve, strip, training_curves

EPSILONS = [0, 1 / 255, 2 / 255, 4 / 255, 8 / 255]


def made_image(generator, *, anomalous, size=224):
    """A brushed metal tile, with a scratch and a blowhole if anomalous: image, mask, map, attacked image, its map."""
    grain = gaussian_filter(generator.normal(size=(size, size)), (0.7, 14)) * 90
    light = 135 + 30 * np.linspace(-1, 1, size)[:, None] * generator.uniform(-1, 1)
    tile = light + grain
    mask = np.zeros((size, size), dtype=bool)
    if anomalous:
        rows, columns = np.mgrid[:size, :size]
        row, column = generator.integers(50, size - 50, 2)
        mask |= (rows - row) ** 2 + ((columns - column) * 0.8) ** 2 < generator.integers(5, 15) ** 2
        slope, offset = generator.uniform(-0.6, 0.6), generator.integers(60, size - 60)
        mask |= (np.abs(rows - offset - slope * (columns - 110)) < 2.2) & (np.abs(columns - 110) < 60)
        tile = np.where(mask, tile * 0.45, tile)
    image = np.repeat(tile[..., None], 3, axis=2)
    hidden = gaussian_filter(mask.astype(float), 5)
    hidden *= 2.2 / max(hidden.max(), 0.1)
    noise = gaussian_filter(generator.normal(size=(size, size)), 9) * 16
    attack = 8 * np.sign(generator.normal(size=image.shape))
    maps = hidden + 0.4 * noise, 0.4 * hidden + 1.1 * noise
    pictures = [np.clip(picture, 0, 255).astype(np.uint8) for picture in (image, image + attack)]
    return pictures[0], mask, maps[0], pictures[1], maps[1]


def made_scores(generator):
    labels = np.arange(160) < 60
    clean = generator.normal(size=160) + 2.4 * labels
    return labels, clean, clean + np.where(labels, -1.1, 0.9) + 0.2 * generator.normal(size=160)


def made_curves():
    shapes = {
        "ensemble": [0.953, 0.931, 0.902, 0.823, 0.634],
        "APGD-100": [0.953, 0.933, 0.906, 0.833, 0.659],
        "PGD-10": [0.953, 0.936, 0.912, 0.846, 0.684],
        "published PGD": [0.953, 0.944, 0.927, 0.883, 0.762],
        "Square": [0.953, 0.946, 0.935, 0.903, 0.821],
    }
    return {
        name: Curve(EPSILONS, v, np.array(v) - 0.03, np.array(v) + 0.03) if name == "ensemble" else Curve(EPSILONS, v)
        for name, v in shapes.items()
    }


def made_table():
    names = ["image_AUROC", "image_AUPR", "image_F1Max", "pixel_AUROC", "pixel_AUPR", "AUPRO"]
    rows = []
    for attack, level, drop in [
        ("none", 0, 0.0), ("published PGD", 8, 0.19), ("PGD-10", 8, 0.27), ("APGD-100", 8, 0.294), ("Square", 8, 0.13),
        ("ensemble", 2, 0.05), ("ensemble", 4, 0.13), ("ensemble", 8, 0.319),
    ]:  # fmt: skip
        start = [0.953, 0.921, 0.874, 0.942, 0.481, 0.803]
        values = {
            name: value - drop * (1 if i < 3 else 0.7) for i, (name, value) in enumerate(zip(names, start, strict=True))
        }
        if attack == "Square":
            values["AUPRO"] = None
        rows.append(MetricRow(attack=attack, epsilon=level / 255, values=values, emphasis=attack == "ensemble"))
    trivial = {"image_AUROC": 0.712, "image_AUPR": 0.503, "image_F1Max": 0.585}
    rows.append(
        MetricRow(attack="none", epsilon=0, values=trivial, baseline=True, name="mean brightness (trivial baseline)")
    )
    note = "Attacks on both classes, 60 anomalous and 100 normal images. A dash is undefined: Square saw scores only."
    return MetricTable(caption="Metrics by attack, split “final”", rows=tuple(rows), note=note)


def made_log(generator):
    rows = [{"step": i, "loss": np.exp(-i / 250) + 0.2 + 0.03 * generator.random()} for i in range(0, 1000, 20)]
    for row in rows[::5]:
        row.update(
            {"dev_AUROC": 0.95 - 0.3 * np.exp(-row["step"] / 200), "dev_AUROC_attacked": 0.3 + row["step"] / 2500}
        )
    return [{name: float(value) for name, value in row.items()} for row in rows]


def made_groups(generator, labels, clean, attacked):
    groups = []
    for title, indices in pick_examples(clean, labels, per_group=1).items():
        examples = []
        for index in indices:
            image, mask, anomaly_map, attacked_image, attacked_map = made_image(
                generator, anomalous=bool(labels[index])
            )
            picture = strip(
                image, mask=mask, anomaly_map=anomaly_map, attacked_image=attacked_image, attacked_map=attacked_map,
                vmin=0.3, vmax=1.6, panel_size=288,
            )  # fmt: skip
            name = f"test/{'crack' if labels[index] else 'good'}/{index:03}.png"
            scores = {"score_clean": clean[index], "score_attacked": attacked[index], "anomalous": bool(labels[index])}
            examples.append(Example(name=name, picture=picture, **scores))
        groups.append(ExampleGroup(title=title.capitalize(), examples=tuple(examples)))
    return tuple(groups)


def made_figures(generator, labels, clean, attacked, threshold):
    histograms = score_histograms(
        clean[~labels], clean[labels], threshold, attacked_normal=attacked[~labels], attacked_anomalous=attacked[labels]
    )
    curves = {
        f"clean, {auroc(clean, labels):.3f}": roc_curve(clean, labels)[:2],
        f"ensemble at 8/255, {auroc(attacked, labels):.3f}": roc_curve(attacked, labels)[:2],
    }
    return (
        ReportFigure(
            title="How much attack the detector bears",
            data=security_curve(made_curves(), baseline=0.712),
            caption="The band is the 95 % interval of the ensemble over groups of images.",
            wide=True,
        ),
        ReportFigure(title="Scores", data=histograms, caption="Share of the images of each class.", wide=True),
        ReportFigure(title="ROC curves", data=roc_curve_plot(curves)),
        ReportFigure(title="Training", data=training_curves(made_log(generator)), wide=True),
    )


def sample_report():
    generator = np.random.default_rng(4)
    labels, clean, attacked = made_scores(generator)
    threshold = f1max(clean, labels).threshold
    return Report(
        title="PatchGuard on magnetic tiles, recipe “fast”",
        created="2 January 2025, 14:05 UTC",
        headline=Headline(
            clean=0.953, clean_interval=(0.921, 0.978), attacked=0.634,
            attacked_interval=(0.601, 0.668), epsilon=8 / 255, baseline=0.712,
        ),
        verdicts=(
            "At 4/255 and below the detector ranks 82 % of pairs right or more, whatever attack was tried.",
            "PGD-10 alone would have claimed 0.684 at 8/255: 0.05 more than the ensemble of attacks leaves.",
            "Localization suffers less than detection: AUPRO falls from 0.803 to 0.580.",
        ),
        summary={
            "Detector": "patchguard, ViT-S/14 with registers", "Recipe": "fast, seed 0", "Data": "mtd, split final",
            "Images": "60 anomalous, 100 normal", "Image size": "224 x 224", "Threat model": "L∞ at network input",
        },
        tables=(made_table(),),
        figures=made_figures(generator, labels, clean, attacked, threshold),
        groups=made_groups(generator, labels, clean, attacked),
        threshold=threshold,
        health=(
            HealthCheck(name="Gradient", passed=True, why="median relative error 0.02 % (limit 1 %)"),
            HealthCheck(name="Monotone in ε", passed=True, why="largest rise 0.000 (limit 0.01)"),
            HealthCheck(name="Unbounded attack", passed=True, why="100 % of images at ε = 1 (limit 95 %)"),
            HealthCheck(name="Black box not stronger", passed=None, why="Square was run on fewer than 100 images"),
        ),
        command="robustad test runs/mtd-fast --attacks ensemble square --epsilons 0 1/255 2/255 4/255 8/255",
        environment={"Processor": "2 cores", "Python": "3.11.7", "torch": "2.6.0", "Wall time": "41 min"},
    )  # fmt: skip


if __name__ == "__main__":
    write_report(sample_report(), sys.argv[1])
