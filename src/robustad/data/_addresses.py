"""The table of what can be downloaded and from where; the rows stand in ``addresses.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from robustad._checks import check_choice

KINDS = ("images", "masks", "weights")
WAYS = ("http", "gdrive-file", "gdrive-folder", "torchvision", "page", "manual", "none")


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where one thing lies; several rows of images are parts, several rows of masks are alternatives, best first.

    Attributes:
        kind: ``images``, ``masks`` (foreground masks) or ``weights``.
        dataset: Name of the dataset.
        category: Category of weights; empty = not of one category.
        how: ``http``; ``gdrive-file`` or ``gdrive-folder`` (``address`` is the id); ``torchvision`` (``address`` is
            its class there); ``page`` (a person must look for the link there); ``manual`` (behind a form or an
            account); ``none`` (known not to exist).
        address: What is fetched.
        page: Page for people.
        archive: Extension of the archive, without a dot; a hint, the content decides.
        into: Folder below the dataset's root, may hold ``{category}``; empty = the root itself.
        present: Pattern below the root that matches when the images are in place.
        sha256: Published checksum; empty = none is known.
        stable: Whether two downloads must be equal bytes (archives made on request are not).
        note: What a person should know.
    """

    kind: str
    dataset: str
    how: str
    category: str = ""
    address: str = ""
    page: str = ""
    archive: str = ""
    into: str = ""
    present: str = ""
    sha256: str = ""
    stable: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        check_choice("how", self.how, WAYS)
        if self.fetched and not self.address:
            raise ValueError(
                f"the {self.kind} of {self.dataset} have no `address` although they are fetched by {self.how}"
            )

    @property
    def fetched(self) -> bool:
        """Whether a program can fetch it."""
        return self.how in ("http", "gdrive-file", "gdrive-folder", "torchvision")

    @property
    def link(self) -> str:
        """An address that a person can open; empty if there is none."""
        if self.how == "gdrive-file":
            return f"https://drive.google.com/file/d/{self.address}"
        if self.how == "gdrive-folder":
            return f"https://drive.google.com/drive/folders/{self.address}"
        return self.page or self.address


@cache
def load_addresses() -> tuple[Address, ...]:
    """The rows of ``addresses.json``."""
    text = files("robustad.data").joinpath("addresses.json").read_text(encoding="utf-8")
    return tuple(Address(**row) for row in json.loads(text))


def select(addresses: Sequence[Address], kind: str, dataset: str) -> list[Address]:
    """Rows of one kind and dataset, in order."""
    return [row for row in addresses if row.kind == kind and row.dataset == dataset]
