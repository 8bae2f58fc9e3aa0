"""The documents say what is so: tables, commands, code, links and pictures are checked against the code."""

import ast
import importlib
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
TABLES = importlib.import_module("make_tables")
RESULT_TABLES = importlib.import_module("result_tables")
SPEED_PICTURE = importlib.import_module("speed_picture")
sys.path.remove(str(ROOT / "tools"))

DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def name_of(path):
    return str(path.relative_to(ROOT))


def fenced(language):
    for path in DOCUMENTS:
        for found, body in FENCE.findall(path.read_text(encoding="utf-8")):
            if found == language:
                yield pytest.param(body, id=f"{name_of(path)}:{body.strip().splitlines()[0][:40]}")


def commands():
    """Every ``robustad ...`` of a shell block, or in backticks in a table of the README."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        lines = [line for language, body in FENCE.findall(text) if language == "bash" for line in body.splitlines()]
        lines += re.findall(r"`(robustad [\w-]+ [^`]+)`", text)
        for line in lines:
            words = shlex.split(line.rpartition("| ")[2], comments=True)
            if words[:1] == ["robustad"] and "COMMAND" not in words:
                yield pytest.param(words[1:], id=" ".join(words)[:70])


def anchors(text):
    """The anchors that a Markdown page makes of its headings."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_tables_are_up_to_date():
    stale = [name_of(path) for path in TABLES.outdated(ROOT)]
    assert not stale, f"run python tools/make_tables.py: {', '.join(stale)}"


def test_every_known_table_is_shown():
    shown = {name for path in DOCUMENTS for _, name, _, _ in TABLES.MARKER.findall(path.read_text(encoding="utf-8"))}
    assert shown == set(TABLES.sources(ROOT / "results"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_no_measured_figure_is_typed(path):
    """A figure with three decimals is a measured one, and belongs into a table from ``results/``."""
    prose = TABLES.MARKER.sub("", path.read_text(encoding="utf-8"))
    assert re.findall(r"(?<![\w.])[01]\.\d{3}(?!\d|\.)", prose) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    for target in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://")):
            continue
        place, _, anchor = target.partition("#")
        file = (path.parent / place).resolve() if place else path
        assert file.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{target}: no such heading"


@pytest.mark.parametrize("words", list(commands()))
def test_commands_are_understood(words):
    from robustad.cli.verbs import ALIASES, VERBS

    verb = VERBS[ALIASES.get(words[0], words[0])]
    arguments = [word for word in words[1:] if word != "--debug"]
    if "--config" in arguments or "--print_config" in arguments:  # a file of the reader's; ends the process
        return
    importlib.import_module(verb.module).build(arguments).parse(arguments)


@pytest.mark.parametrize("body", list(fenced("yaml")))
def test_yaml_is_understood(body, tmp_path):
    from robustad.cli import fit

    (tmp_path / "run.yaml").write_text(body, encoding="utf-8")
    words = ["--config", str(tmp_path / "run.yaml")]
    parsed = fit.build(words).parse(words)
    assert parsed.data.data == "elpv" and parsed.training.max_time == 300.0


@pytest.mark.parametrize("body", list(fenced("python")))
def test_python_names_exist(body):
    """Code compiles, and what it takes from this package is there."""
    import robustad

    for node in ast.walk(ast.parse(body)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("robustad"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "robustad":
            assert node.attr in robustad.__all__


def test_pictures_are_accounted_for():
    folder = ROOT / "docs" / "pictures"
    known = (folder / "README.md").read_text(encoding="utf-8")
    pictures = [path.name for path in folder.iterdir() if path.suffix in (".png", ".svg", ".jpg")]
    assert pictures
    for name in pictures:
        assert f"`{name}`" in known, f"docs/pictures/README.md does not say what {name} is made of"
    assert "MIT License" in (folder / "LICENSE-DeepPCB.txt").read_text(encoding="utf-8")


def test_the_picture_of_speed_shows_what_was_measured():
    from robustad.evaluation import Results

    rows = SPEED_PICTURE.shown(Results.read(ROOT / "results" / "bench.json").benchmarks)
    text = (ROOT / "docs" / "pictures" / "speed.svg").read_text(encoding="utf-8")
    written = re.findall(r"\d+\.\d\d×", text)
    assert sorted(written) == sorted(map(SPEED_PICTURE.label, rows)), "run python tools/speed_picture.py"


def test_only_what_was_measured_is_claimed():
    from robustad.evaluation import Results

    claims = tomllib.loads((ROOT / "benchmarks" / "claims.toml").read_text(encoding="utf-8"))
    assert claims
    for name, section in claims.items():
        measured = {row.claim: row.ratio for row in Results.read(ROOT / "results" / f"{name}.json").benchmarks}
        for claim, least in section.items():
            assert (measured.get(claim) or 0) >= least, f"{claim} is claimed, but {name}.json does not show it"


def test_documents_name_no_workplace():
    for path in DOCUMENTS:
        assert "../shared" not in path.read_text(encoding="utf-8"), path.name


def made_results(folder, values, file="elpv.json"):
    from robustad.evaluation import Results, Row

    common = {"recipe": "default", "data": "elpv:mono", "targets": "both", "split": "final", "metric": "image_AUROC"}
    rows = []
    for seed, value in enumerate(values):
        clean = {"attack": "none", "norm": "none", "epsilon": 0.0, "interval": (0.5, 0.96)}
        worst = {"attack": "ensemble", "norm": "linf", "epsilon": 2 / 255}
        rows += [Row(detector="patchguard", seed=seed, value=value, **common, **kind) for kind in (clean, worst)]
    head = {"name": "elpv", "command": "made", "commit": "abc", "machine": "none", "wall_seconds": 1.0}
    Results(**head, started="2025-01-01T00:00:00+00:00", rows=tuple(rows)).write(folder / file)


def test_several_seeds_are_mean_and_range(tmp_path):
    made_results(tmp_path, (0.8, 0.9, 0.94))
    line = RESULT_TABLES.figures(RESULT_TABLES.VIEWS["elpv"], tmp_path).splitlines()[2]
    mean = "0.880 (0.800 to 0.940)"
    assert line == f"| elpv:mono, patchguard, default | {mean} | – | {mean} | – | – | – | – |"


def test_one_seed_has_its_interval(tmp_path):
    made_results(tmp_path, (0.9,))
    assert "| 0.900 [0.500, 0.960] |" in RESULT_TABLES.figures(RESULT_TABLES.VIEWS["elpv"], tmp_path)


def test_a_change_of_a_recipe_stands_beside_what_was_before(tmp_path):
    kept = next(change for change in RESULT_TABLES.CHANGES if change.before == "elpv.json")
    made_results(tmp_path, (0.8,))
    assert "run `python tools/evidence.py elpv`" in RESULT_TABLES.recipe_changes(tmp_path), "half of it is no table"
    made_results(tmp_path, (0.7,), kept.after)
    lines = RESULT_TABLES.recipe_changes(tmp_path).splitlines()
    assert f"| {kept.title} | before | after |" in lines
    assert "| clean | 0.800 [0.500, 0.960] | 0.700 [0.500, 0.960] |" in lines
    assert "| worst case, 2/255 | 0.800 | 0.700 |" in lines
    assert sum("elpv" in line and line.startswith("*`") for line in lines) == 2


def test_a_line_that_says_less_than_another_is_left_out(tmp_path):
    made_results(tmp_path, (0.9,))
    view = RESULT_TABLES.View(
        files={"elpv.json": "made"},
        columns={"clean": {"attack": "none"}, "2/255": {"epsilon": 2 / 255}},
        lines={"quick": {"attack": ["pgd"]}, "worst": {"attack": ["ensemble"]}, "none": {"metric": "AUPRO"}},
    )
    lines = RESULT_TABLES.figures(view, tmp_path).splitlines()
    assert lines[2:3] == ["| patchguard, default, worst | 0.900 [0.500, 0.960] | 0.900 |"] and lines[3] == ""


def test_missing_results_say_how_to_measure(tmp_path):
    assert RESULT_TABLES.figures(RESULT_TABLES.VIEWS["elpv"], tmp_path).startswith("*Not measured yet: run `python")


def test_an_old_table_is_noticed(tmp_path):
    (tmp_path / "docs").mkdir()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(
        text.replace("<!-- /table -->", "typed by hand\n<!-- /table -->", 1), encoding="utf-8"
    )
    (tmp_path / "results").mkdir()
    assert TABLES.outdated(tmp_path) == [tmp_path / "README.md"]


@pytest.mark.parametrize("text", ["<!-- table:elpv -->\nno end", "<!-- table:unknown -->\n<!-- /table -->"])
def test_broken_markers_are_refused(text):
    with pytest.raises(SystemExit, match=r"x\.md"):
        TABLES.fill(text, TABLES.sources(ROOT / "results"), "x.md")
