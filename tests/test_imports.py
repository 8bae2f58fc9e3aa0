"""``import robustad`` and ``robustad --help`` must feel instant: they load nothing heavy."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from robustad.detectors import PatchGuard, PatchGuardConfig, save_checkpoint

HEAVY = (
    "torch",
    "torch._dynamo",
    "torchvision",
    "timm",
    "matplotlib",
    "jsonargparse",
    "numpy",
    "PIL",
    "rich",
    "scipy",
    "sklearn",
    "yaml",
    "lightning_fabric",
)
PROBE = """
import json, sys, time
before = time.process_time()
{code}
seconds = time.process_time() - before
print(json.dumps([seconds, sorted(name for name in {heavy!r} if name in sys.modules)]), file=sys.stderr)
"""


def probe(code):
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(code=code, heavy=HEAVY)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    seconds, heavy = json.loads(done.stderr.splitlines()[-1])
    return seconds, heavy, done.stdout


@pytest.mark.parametrize(
    ("code", "limit"),
    [
        ("import robustad; robustad.__version__", 0.3),
        ("from robustad.cli import main; main(['--help'])", 1.0),
        ("from robustad.cli import main; main(['--version'])", 1.0),
        ("from robustad.cli import main; main(['no-such-command'])", 1.0),
    ],
)
def test_nothing_heavy_is_loaded(code, limit):
    seconds, heavy, _ = probe(code)
    assert heavy == []
    assert seconds < limit


def test_scoring_an_image_needs_neither_timm_nor_what_that_brings_along(tmp_path):
    picture = tmp_path / "a.png"
    checkpoint = save_checkpoint(tmp_path / "checkpoint", PatchGuard(PatchGuardConfig(image_size=32)).eval())
    Image.new("RGB", (40, 40), (90, 60, 30)).save(picture)
    words = ["predict", str(checkpoint), str(picture), "--out", str(tmp_path / "scores.csv")]
    _, heavy, _ = probe(f"from robustad.cli import main; assert main({words!r}) == 0")
    assert set(heavy) == {"torch", "numpy", "PIL", "jsonargparse", "yaml"}


@pytest.mark.parametrize("verb", ["predict", "visualize", "masks", "data", "download", "import-official", "info"])
def test_the_help_of_a_command_needs_no_torch(verb):
    code = f"from robustad.cli import main; main(['{verb}', '--help'])"
    _, heavy, printed = probe(code)
    assert not {"torch", "timm", "matplotlib"} & set(heavy)
    assert f"robustad {verb}" in printed
