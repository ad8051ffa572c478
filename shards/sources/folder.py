"""Any folder tree of videos, labelled by a CSV file or by its subfolders."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from kineme.shards.errors import DataError
from kineme.shards.sample import Label
from kineme.shards.sources.base import NOT_SPLIT, Defaults, FetchOptions, SourceItem, require_folder
from kineme.shards.sources.listing import natural_order, source_name
from kineme.shards.sources.openers import NO_SIDECARS, ImageFolder, Missing, Sidecars, VideoFile

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".mov", ".mkv", ".avi", ".webm", ".gif", ".m4v", ".mpg", ".mpeg", ".ogv", ".ts", ".wmv", ".flv")
)
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp"))
LABELS = "labels.csv"

_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_BOOLEAN = {"true": True, "false": False}


@dataclass(frozen=True)
class FolderSource:
    """Videos and folders of numbered images, found recursively; hidden files and folders are passed over.

    Labels: ``labels.csv`` at the root, column ``path`` (relative to the root), optional column ``split``, every other
    column a label; a column all of whole numbers, numbers or true/false becomes that. Without it, a video in a
    subfolder has the label ``folder``. ``VIDEO.keypoints.npy`` and ``VIDEO.actions.npy`` beside a video (its name
    without suffix) go with it. A folder of two or more images with numbers in their names is one video, named as
    the folder.
    """

    name: str = "folder"
    description: str = "any folder tree of videos, or of folders of numbered images"
    licence: str = "that of your files"
    origin: str = "your own files; labels.csv (path, split, labels ...) is optional"
    defaults: Defaults = Defaults()
    repeats: bool = True
    options: Mapping[str, str] = field(default_factory=dict)

    def present(self, root: Path) -> bool:
        """Whether there is any video under ``root``."""
        return root.is_dir() and next(_walk(root), None) is not None

    def items(self, root: Path) -> list[SourceItem]:
        """Every video under ``root`` by name, and what labels.csv names but is not there.

        Raises:
            DataError: ``root`` is no folder, or its labels.csv is not as described.
        """
        require_folder(root)
        found = {item.source: item for item in _walk(root)}
        labelled = _read_labels(root / LABELS)
        if labelled is None:
            items = [replace(item, labels=_label(name.rpartition("/")[0])) for name, item in found.items()]
        else:
            for name in labelled.keys() - found.keys():
                found[name] = SourceItem(name, Missing(f"named in {LABELS} and not found as a video"))
            unknown: tuple[Mapping[str, Label], str] = ({}, NOT_SPLIT)
            items = [
                replace(item, labels=labelled.get(name, unknown)[0], split=labelled.get(name, unknown)[1])
                for name, item in found.items()
            ]
        return sorted(items, key=lambda item: item.source)

    def attachments(self, root: Path) -> Mapping[str, bytes]:
        """None."""
        return {}

    def fetch(self, to: Path, options: FetchOptions) -> str:
        """Raises DataError: there is nothing to fetch."""
        raise DataError(
            "folder: these are your own videos, nothing to fetch; go on with kineme ingest FOLDER --out SHARDS"
        )


def _walk(root: Path) -> Iterator[SourceItem]:
    """Real folders first, then those behind links that were not seen yet; links to a folder above are not followed."""
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    links: list[Path] = []
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen or _is_above(folder, root):
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield SourceItem(source_name(folder, root), Missing(error.strerror or "cannot be opened"))
            continue
        others: list[Path] = []
        for entry in entries:
            path = Path(entry.path)
            suffix = path.suffix.lower()
            if entry.name.startswith("."):
                continue
            if path.is_dir():  # entry.is_dir() raises at a link to itself
                (links if entry.is_symlink() else waiting).append(path)
            elif suffix in VIDEO_SUFFIXES:
                yield SourceItem(source_name(path, root), VideoFile(path.absolute(), _sidecars(path.with_suffix(""))))
            else:
                others.append(path.absolute())
        images = numbered_images(others)
        if len(images) > 1:
            yield SourceItem(source_name(folder, root), ImageFolder(images, _sidecars(folder)))


def _is_above(link: Path, root: Path) -> bool:
    """Whether a folder found by a link holds the root, or the link itself."""
    if link == root or not link.is_symlink():
        return False
    return root.resolve().is_relative_to(link.resolve()) or link.parent.resolve().is_relative_to(link.resolve())


def _sidecars(stem: Path) -> Sidecars:
    """``stem`` is the video's path without suffix. with_suffix would cut a name with dots once more."""
    keypoints = stem.with_name(f"{stem.name}.keypoints.npy")
    actions = stem.with_name(f"{stem.name}.actions.npy")
    found = Sidecars(
        keypoints=keypoints.absolute() if keypoints.is_file() else None,
        actions=actions.absolute() if actions.is_file() else None,
    )
    return found if found.paths() else NO_SIDECARS


def numbered_images(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Those of some files that are images with a number in their name, by that number."""
    images = (path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and re.search(r"\d", path.stem))
    return tuple(sorted(images, key=lambda path: natural_order(path.name)))


@cache  # one object for all videos of a folder
def _label(folder: str) -> Mapping[str, Label]:
    return {"folder": folder} if folder else {}


def _read_labels(path: Path) -> dict[str, tuple[Mapping[str, Label], str]] | None:
    """Labels and split by source name; None without the file. An empty cell is no label."""
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or [])
            rows = list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from error
    if "path" not in columns:
        raise DataError(f"{path}: its columns are {', '.join(columns) or 'none'}; one must be called path")
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise DataError(f"{path}: row {number} has not the {len(columns)} cells of the header; mend that row")
    names = [Path(row["path"]).as_posix() for row in rows]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice:
        raise DataError(f"{path}: {min(twice)} stands there {names.count(min(twice))} times; keep one row a video")
    typed = {name: _typed([row[name] for row in rows]) for name in columns if name not in ("path", "split")}
    labels: list[dict[str, Label]] = [{} for _ in rows]
    for column, values in typed.items():
        for number, value in enumerate(values):
            if value is not None:
                labels[number][column] = value
    splits = [row.get("split") or NOT_SPLIT for row in rows]
    return {name: (label, split) for name, label, split in zip(names, labels, splits, strict=True)}


def _typed(cells: list[str]) -> list[Label | None]:
    """A column as whole numbers, numbers, booleans or else text: one type for all of it, None where empty."""
    filled = [cell for cell in cells if cell]
    if all(_WHOLE.fullmatch(cell) for cell in filled):
        return [int(cell) if cell else None for cell in cells]
    if all(_DECIMAL.fullmatch(cell) for cell in filled):
        return [float(cell) if cell else None for cell in cells]
    if all(cell.lower() in _BOOLEAN for cell in filled):
        return [_BOOLEAN[cell.lower()] if cell else None for cell in cells]
    return [cell or None for cell in cells]
