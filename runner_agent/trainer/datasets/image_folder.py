"""Lists an image folder: one folder per class, images below it; or such folders below `train` and `val`."""

from protos.training.v1 import training_pb2
from runner_agent.trainer.datasets.listing import SUFFIXES, Group, Item, Listing, by_path, printable
from runner_agent.trainer.datasets.walk import Walk, is_folder, parts


def scan(walk: Walk) -> Listing:
    """List the images of a classification. Never raises: what is wrong is among the problems."""
    top = walk.entries("")
    names = [entry.name for entry in top if is_folder(entry)]
    given = parts(names)
    if given is not None and not walk.subfolders(given[Group.TRAIN]):
        # Images lie right in it: `train` is the name of a class.
        given = None
    for entry in top:
        if not is_folder(entry):
            walk.ignore(entry.name)
    if given is None:
        found = {"": names}
        folders = {"": Group.NONE}
    else:
        walk.tell_unused(names, given.values())
        one = len(given) == 1
        folders = {f"{name}/": Group.NONE if one else group for group, name in given.items()}
        found = {prefix: walk.subfolders(prefix[:-1]) for prefix in folders}
    classes: list[str] = []
    items: list[Item] = []
    for name in sorted({name for names in found.values() for name in names}):
        images = [
            (file, group)
            for prefix, group in folders.items()
            if name in found[prefix]
            for file in walk.images(f"{prefix}{name}")
        ]
        items += [Item(file.path, len(classes), file.size_bytes, group) for file, group in images]
        if images:
            classes.append(printable(name))
        else:
            walk.problem(name, "the class folder holds no images and is ignored", fatal=False)
    walk.tell_ignored("not in a class folder or no images, and ignored")
    if not walk.ended:
        _summarise(walk, any(found.values()), classes)
    return Listing(
        walk.root, training_pb2.DATASET_FORMAT_IMAGE_FOLDER, tuple(classes), by_path(items), tuple(walk.problems)
    )


def _summarise(walk: Walk, folders: bool, classes: list[str]) -> None:
    """Add what is wrong with the dataset as a whole."""
    if not folders:
        message = "there are no class folders; put the images of each class into a folder of its own"
        walk.problem("", message, fatal=True)
    elif not classes:
        walk.problem("", f"there are no images ({', '.join(sorted(SUFFIXES))}) in the class folders", fatal=True)
    elif len(classes) == 1:
        walk.problem("", f"there is only one class, {classes[0]}; a classification needs two or more", fatal=True)
