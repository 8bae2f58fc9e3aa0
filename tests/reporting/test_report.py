"""The report: complete with everything, complete with nothing, safe with hostile names, and self-contained."""

import html.parser
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from report_sample import sample_report

from robustad.evaluation.results import Row
from robustad.reporting import (
    Example,
    ExampleGroup,
    Headline,
    HealthCheck,
    MetricRow,
    MetricTable,
    Report,
    ReportFigure,
    data_uri,
    format_epsilon,
    metric_table,
    render,
    write_report,
)
from robustad.visual import png_bytes

PNG = png_bytes(np.zeros((4, 4, 3), dtype=np.uint8))
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Collects tags, ids and text, and checks that tags nest."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1:] != ["style"]:
            self.words.append(" ".join(data.split()))

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def full():
    return render(sample_report())


def test_full_report_shows_every_part(full):
    page = Page(full)
    links = [link["href"][1:] for link in page.all("a")]
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert set(links) <= ids
    assert {"subject", "metrics", "plots", "examples", "health", "reproduce"} <= set(links)
    text = " ".join(page.words)
    for word in [
        "0.953",
        "0.634",
        "0.712",
        "AUPRO",
        "✓ passed",
        "○ not run",
        "✗ missed",
        "robustad test runs/mtd-fast",
    ]:
        assert word in text


def test_headline_comes_before_everything_else(full):
    text = " ".join(Page(full).words)
    assert (
        text.index("Clean images")
        < text.index("Under attack")
        < text.index("Trivial baseline")
        < text.index("Pixel AUROC")
    )


def test_nothing_is_loaded_and_nothing_runs(full):
    page = Page(full)
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "embed"}
        for name in ("src", "href", "srcset", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
        assert not any(name.startswith("on") for name in attributes)
    assert "default-src 'none'" in full
    assert not re.search(r"url\(|@import", full.split("</style>")[0])


def test_accessible(full):
    page = Page(full)
    assert all(image.get("alt") for image in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table")) == 2
    assert all(cell.get("scope") in {"row", "col"} for cell in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1


def test_a_bare_report_has_no_empty_sections():
    page = Page(render(Report(title="Nothing yet")))
    assert page.all("section") == []
    assert page.all("table") == []
    assert "Nothing yet" in page.words


def test_hostile_names_are_escaped():
    evil = "<script>alert('1')</script>\" onerror=\"x"
    report = Report(
        title=evil,
        headline=Headline(clean=0.9, attacked=0.5, baseline=0.6, baseline_name=evil, attack=evil, metric=evil),
        verdicts=(evil,),
        summary={evil: evil},
        tables=(MetricTable(caption=evil, rows=(MetricRow(attack=evil, epsilon=0.1, values={evil: 0.5}),), note=evil),),
        figures=(
            ReportFigure(title=evil, data=PNG, caption=evil),
            ReportFigure(title=evil, data=PNG, alt=evil, wide=True),
        ),
        groups=(ExampleGroup(title=evil, note=evil, examples=(Example(name=evil, picture=PNG),)),),
        health=(HealthCheck(name=evil, passed=False, why=evil),),
        command=evil,
        environment={evil: evil},
        created=evil,
    )
    text = render(report)
    assert "<script" not in text
    page = Page(text)
    assert not any(name == "onerror" for _, attributes in page.tags for name in attributes)
    assert sum(evil in word for word in page.words) > 10


def test_columns_without_figures_are_left_out_and_undefined_cells_say_so():
    table = MetricTable(
        caption="t",
        rows=(
            MetricRow(attack="none", epsilon=0, values={"AUPRO": 0.4, "image_AUROC": 0.9, "extra": 1.0}),
            MetricRow(attack="pgd", epsilon=8 / 255, values={"image_AUROC": None, "pixel_AUROC": None}),
        ),
    )
    assert table.columns == ["image_AUROC", "AUPRO", "extra"]
    words = Page(render(Report(title="t", tables=(table,)))).words
    assert "Pixel AUROC" not in words
    assert words.count("undefined") == 3
    assert "8/255" in words


@pytest.mark.parametrize(
    ("clean", "attacked", "baseline", "expected"),
    [
        (0.9, 0.8, 0.7, "✓ Good."),
        (0.9, 0.6, 0.7, "! Note."),
        (0.9, 0.7, 0.7, "! Note."),
        (0.6, 0.5, 0.7, "✗ Warning."),
        (0.6, None, 0.7, "✗ Warning."),
        (0.9, None, 0.7, None),
        (0.9, 0.6, None, None),
    ],
)
def test_reading_of_the_headline(clean, attacked, baseline, expected):
    headline = Headline(clean=clean, attacked=attacked, baseline=baseline, lead=(0.01, 0.2))
    words = Page(render(Report(title="t", headline=headline, health=(HealthCheck(name="One", passed=True),)))).words
    assert [word for word in words if word in {"✓ Good.", "! Note.", "✗ Warning."}] == ([expected] if expected else [])
    assert ("Under attack" in words) == (attacked is not None)
    assert ("Trivial baseline" in words) == (baseline is not None)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"lead": (-0.012, 0.2)}, "chance may do that: the interval of the lead reaches down to −0.012"),
        ({"lead": None}, "there are too few images to say by how much"),
        ({"limits": "fgsm is one attack only"}, "but fgsm is one attack only."),
        ({"baseline": 0.2, "attacked": 0.4}, "it is no better than chance"),
        ({"health": ()}, "whether attacks on it can be believed was not examined"),
    ],
)
def test_a_lead_that_may_be_none_is_not_praised(changes, text):
    health = changes.pop("health", (HealthCheck(name="One", passed=True), HealthCheck(name="Two", passed=None)))
    values = {"clean": 0.9, "attacked": 0.8, "baseline": 0.7, "lead": (0.01, 0.2)}
    passed = health or (HealthCheck(name="One", passed=True),)
    assert "✓ Good." in Page(render(Report(title="t", headline=Headline(**values), health=passed))).words
    words = Page(render(Report(title="t", headline=Headline(**values | changes), health=health))).words
    assert "! Note." in words and "✓ Good." not in words
    assert any(text in word for word in words)


def test_failed_health_is_said_at_the_top():
    checks = (HealthCheck(name="Gradient", passed=False), HealthCheck(name="Monotone", passed=True))
    words = Page(render(Report(title="t", health=checks))).words
    assert "Health checks failed (Gradient): do not rely on the attacked figures." in words
    headline = Headline(clean=0.9, attacked=0.8, baseline=0.7, lead=(0.05, 0.2))
    words = Page(render(Report(title="t", health=checks, headline=headline))).words
    assert "✗ Warning." in words and "✓ Good." not in words


@pytest.mark.parametrize(
    ("score", "anomalous", "expected"),
    [(0.6, True, "✓ found"), (0.5, True, "✗ missed"), (0.6, False, "✗ false alarm"), (0.5, False, "✓ passed")],
)
def test_decisions_are_marked(score, anomalous, expected):
    example = Example(name="a.png", picture=PNG, score_clean=score, anomalous=anomalous)
    groups = (ExampleGroup(title="g", examples=(example,)),)
    assert expected in Page(render(Report(title="t", groups=groups, threshold=0.5))).words
    assert expected not in Page(render(Report(title="t", groups=groups))).words


def test_scores_of_any_scale_can_be_told_apart():
    examples = tuple(
        Example(name=n, picture=PNG, score_clean=v, anomalous=True) for n, v in (("a", 2.5e-5), ("b", -1e4))
    )
    groups = (ExampleGroup(title="g", examples=examples),)
    words = " ".join(Page(render(Report(title="t", groups=groups, threshold=3.25e-5))).words)
    assert "2.5e−05" in words and "−1e+04" in words and "threshold is 3.25e−05" in words


def test_inline_scale_is_valid_and_in_place(full):
    svg = re.search(r"<svg.*?</svg>", full, re.S).group()
    marks = ET.fromstring(svg)
    assert float(marks.find("circle").get("cx")) == pytest.approx(953)
    assert float(marks.find("rect").get("x")) == pytest.approx(634 - 8)


def test_pictures_of_unknown_kind_are_refused():
    assert data_uri(PNG).startswith("data:image/png;base64,")
    assert data_uri(b"\xff\xd8\xff\xe0").startswith("data:image/jpeg;base64,")
    assert data_uri(b"  <svg/>").startswith("data:image/svg+xml;base64,")
    with pytest.raises(ValueError, match="a picture must be PNG, JPEG or SVG"):
        render(Report(title="t", figures=(ReportFigure(title="f", data=b"<html>"),)))


def test_write_is_atomic(tmp_path):
    path = tmp_path / "run" / "report.html"
    write_report(Report(title="Erste Prüfung"), path)
    before = path.read_text(encoding="utf-8")
    assert "Erste Prüfung" in before
    with pytest.raises(ValueError, match="a picture must be"):
        write_report(Report(title="t", figures=(ReportFigure(title="f", data=b""),)), path)
    assert path.read_text(encoding="utf-8") == before
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("epsilon", "text"), [(0, "0"), (8 / 255, "8/255"), (0.5 / 255, "0.001961"), (1.0, "1"), (2.5, "2.5")]
)
def test_format_epsilon(epsilon, text):
    assert format_epsilon(epsilon) == text


def row(**changes):
    fields = {
        "detector": "patchguard", "recipe": "fast", "data": "mtd", "attack": "none", "norm": "none", "epsilon": 0.0,
        "targets": "both", "metric": "image_AUROC", "split": "final", "seed": 0, "value": 0.9,
    }  # fmt: skip
    return Row(**{**fields, **changes})


def test_table_from_result_rows():
    rows = [
        row(detector="brightness", value=0.7),
        row(),
        row(metric="AUPRO", value=None, reason="no masks"),
        row(
            attack="ensemble",
            norm="linf",
            epsilon=8 / 255,
            seed=None,
            value=None,
            seeds=(0, 1),
            values=(0.5, 0.7),
            mean=0.6,
        ),
    ]
    table = metric_table(rows, caption="c")
    assert [(line.attack, line.values.get("image_AUROC"), line.baseline, line.emphasis) for line in table.rows] == [
        ("none", 0.9, False, False),
        ("ensemble", 0.6, False, True),
        ("none", 0.7, True, False),
    ]
    assert table.columns == ["image_AUROC"]
    with pytest.raises(ValueError, match="two rows for image_AUROC under none at 0"):
        metric_table([row(), row(seed=1)], caption="c")
