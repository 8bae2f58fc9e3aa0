"""Finished pieces: found again under the same key, context and edition alone."""

from __future__ import annotations

import numpy as np

from robustad.evaluation import Store
from robustad.evaluation import store as module


def test_pieces_of_another_context_or_edition_are_not_taken(tmp_path, monkeypatch):
    Store(tmp_path, context="a").put({"scores": np.ones(2)}, "pgd", 3)
    assert Store(tmp_path, context="a").get("pgd", 3) is not None
    assert Store(tmp_path, context="a").get("pgd", 4) is None
    assert Store(tmp_path, context="b").get("pgd", 3) is None
    monkeypatch.setattr(module, "EDITION", module.EDITION + 1)
    assert Store(tmp_path, context="a").get("pgd", 3) is None
