"""Datasets in which each image has a file of its own beside it: YOLO's labels, and masks.

`images/` and, say, `masks/` lie beside each other, either once, with or without folders for the parts below them, or
in each of the folders `train` and `val`.
"""

import posixpath
from dataclasses import dataclass

from runner_agent.trainer.datasets.listing import SUFFIXES, Group, Item, ListingError
from runner_agent.trainer.datasets.walk import PARTS, File, Walk, parts

IMAGES = "images"


@dataclass(frozen=True)
class Pairs:
    """Images with their companions, and the folders with companions that belong to no image."""

    items: list[Item]
    unused: list[File]


def find(walk: Walk, other: str, suffixes: frozenset[str], what: str) -> Pairs:
    """Images and what lies in the folder `other` under the same name with one of the suffixes.

    Raises ListingError where the folders are not there.
    """
    top = walk.subfolders("")
    if IMAGES in top:
        if other not in top:
            raise ListingError(f"there is a folder {IMAGES}, but no folder {other} beside it")
        names = walk.subfolders(IMAGES)
        below = parts(names)
        parts_of = {"": Group.NONE} if below is None else {f"/{name}": group for group, name in below.items()}
        folders = [(f"{IMAGES}{part}", f"{other}{part}", group) for part, group in parts_of.items()]
        if below is not None:
            walk.tell_unused(names, below.values(), f"{IMAGES}/")
    else:
        given = parts([name for name in top if name in PARTS])
        if given is None:
            raise ListingError(
                f"there is no folder {IMAGES}, nor one in each of train and val; see the docs for {what}"
            )
        for name in given.values():
            if not {IMAGES, other} <= set(walk.subfolders(name)):
                raise ListingError(f"the folder {name} does not hold the folders {IMAGES} and {other}", name)
        folders = [(f"{name}/{IMAGES}", f"{name}/{other}", group) for group, name in given.items()]
        walk.tell_unused(top, given.values())
    if len(folders) == 1:
        folders = [(images, others, Group.NONE) for images, others, _ in folders]
    items: list[Item] = []
    unused: list[File] = []
    for images, others, group in folders:
        companions = {_stem(file.path, others): file for file in walk.images(others, suffixes)}
        for file in walk.images(images, SUFFIXES):
            companion = companions.get(_stem(file.path, images))
            path = companion.path if companion is not None else ""
            items.append(Item(file.path, -1, file.size_bytes, group, companion=path))
        used = {item.companion for item in items}
        unused += [file for file in companions.values() if file.path not in used]
    if not items and not walk.ended:
        raise ListingError(f"there are no images ({', '.join(sorted(SUFFIXES))}) in the folder {IMAGES}")
    return Pairs(items, unused)


def _stem(path: str, folder: str) -> str:
    return posixpath.splitext(posixpath.relpath(path, folder))[0]
