"""Small data sets in the exact layouts of the real ones, rendered by MiniStreet, and damaged twins of them.

They are there to try the whole path from files to scores where the data are not at hand, and for tests. What is in the files
is known: `Tree.label` gives each clip's train ids, worked out while drawing. Frames beside the rendered ones are copies, so
that a snippet has its thirty names.

    trees = write_all(Path("data"), scale=8)
    trees["viper"].label("001_00010", "viper2cityscapes")
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from bench.core.errors import UsageError, unknown

from .datasets import Dataset, Item, dataset
from .datasets.viper import CLASSES as VIPER_CLASSES
from .label_maps import named_space, own_names
from .labels import CLASSES, IGNORE
from .reading import Size

UInt8 = npt.NDArray[np.uint8]
WORLD = 20230618
"""Seed of the worlds that fixtures are drawn from."""

_SYNTHIA = {"terrain": "void", "truck": "car", "bus": "car", "motorcycle": "cyclist", "bicycle": "cyclist"}
_POLE = {"viper": "infrastructure", "cityscapes_seq": "pole", "synthia_seq": "pole", "frames": "pole"}


@dataclass(frozen=True)
class Tree:
    """One data set on disk and what is in it.

    Attributes:
        name: of the data set.
        root: its own root, which items' paths are relative to (for ``frames`` the folder of the YAML).
        size: ``(H, W)`` of its picture files; that of the first sequence where they differ.
        raw: key to raw label ids of frame t at the files' size, before any cut.
        own_car: key to the pixels of the player's car, which count as ignored.
    """

    name: str
    root: Path
    size: Size
    raw: dict[str, UInt8] = field(default_factory=dict, repr=False)
    own_car: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict, repr=False)

    @property
    def data(self) -> Dataset:
        """The data set (for ``frames`` see `bench.data.datasets.frames.open_frames`)."""
        return dataset(self.name)

    def label(self, key: str, space: str) -> UInt8:
        """Train ids of a clip's frame t at the size of the files; SYNTHIA's cut not yet made."""
        data_set = "cityscapes_seq" if self.name == "frames" else self.name
        train = named_space(space).ids[data_set][self.raw[key]]
        return np.where(self.own_car[key], np.uint8(IGNORE), train) if key in self.own_car else train


def _raw_ids(name: str) -> tuple[UInt8, UInt8]:
    """Tables from MiniStreet's train id to a raw id of the data set, for the left and the right half of a picture:
    where several raw ids become one class both are used."""
    data_set = "cityscapes_seq" if name == "frames" else name
    raw_of = {class_name: raw for raw, class_name in reversed(list(dataset(data_set).names.items()))}
    left, right = np.zeros(256, np.uint8), np.zeros(256, np.uint8)
    for train, cls in enumerate(CLASSES):
        names = own_names(data_set, cls, CLASSES)
        if name == "synthia_seq":
            names = ("pedestrian", "cyclist") if cls == "person" else (_SYNTHIA.get(cls, names[0]),)
        left[train], right[train] = raw_of[names[0]], raw_of[names[-1]]
    return left, right


def _draw(name: str, domain: str, index: int, size: Size, frames: int) -> tuple[UInt8, UInt8]:
    """Frames ``(T, 3, H, W)`` oldest first and the raw ids ``(T, H, W)`` of each, with a pole near the right edge."""
    from .ministreet import DOMAINS, render_clip
    from .ministreet.raster import render_buffers
    from .ministreet.render import random_parts, sample_scene

    height, width = size
    clip = render_clip(domain, WORLD, index, height, width, frames)
    scene = sample_scene(DOMAINS[domain], random_parts(domain, WORLD, index), height, width, frames)
    surface = scene.world.surfaces.freeze()
    buffers = [render_buffers(scene.world, camera, age) for age, camera in enumerate(scene.cameras)]
    labels = np.stack([surface.label[b.surface] for b in buffers[::-1]]).astype(np.uint8)
    if not np.array_equal(labels[-1], clip.label):
        raise AssertionError("the labels of earlier frames are drawn differently from those of the last one")
    left, right = _raw_ids(name)
    raw = np.where(np.arange(width) < width // 2, left[labels], right[labels])
    images, thick = clip.frames.copy(), max(2, width // 100)
    pole = next(k for k, class_name in _names(name).items() if class_name == _POLE[name])
    columns = slice(width * 4 // 5, width * 4 // 5 + thick)
    raw[:, height // 4 : height * 3 // 4, columns] = pole
    images[:, :, height // 4 : height * 3 // 4, columns] = 150
    return images, raw


def _names(name: str) -> dict[int, str]:
    return dict(dataset("cityscapes_seq" if name == "frames" else name).names)


def _cars(images: UInt8, raw: UInt8, ego: bool) -> npt.NDArray[np.bool_]:
    """Paint the player's bonnet (``ego``) or a car that touches the lower edge beside the middle, with road around it, into
    pictures and raw ids; returns the bonnet's pixels."""
    height, width = raw.shape[-1:-3:-1][::-1]
    y, x = np.mgrid[:height, :width]
    centre = width // 2 if ego else width // 8
    gap = max(4, height // 25)

    def oval(margin: int) -> npt.NDArray[np.bool_]:
        distance = ((x - centre) / (width / 6 + margin)) ** 2 + ((y - height) / (height / 6 + margin)) ** 2
        return np.asarray(distance <= 1)

    ids = {name: raw_id for raw_id, (name, _) in enumerate(VIPER_CLASSES)}
    for mask, grey, raw_id in ((oval(gap), 90, ids["road"]), (oval(0), 40, ids["car"])):
        raw[:, mask] = raw_id
        images[:, :, mask] = grey
    if not ego:  # nothing is in the middle of the last row, whatever was drawn there
        raw[:, -1, width // 2] = ids["road"]
    return oval(0) if ego else np.zeros((height, width), np.bool_)


def _save(pixels: npt.NDArray[np.generic], path: Path) -> None:
    """Write a picture; ``(3, H, W)`` is RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels.transpose(1, 2, 0) if pixels.ndim == 3 else pixels)
    if path.suffix == ".jpg":
        picture.save(path, quality=95)
    else:
        picture.save(path, compress_level=1)


def _begin(out: Path, name: str, scale: int) -> tuple[Path, Size]:
    """Folder and picture size of a tree that is not there yet."""
    data_set = dataset(name)
    root = out / data_set.folder
    if root.exists():
        raise UsageError(f"{root} is there already; choose another folder or delete it")
    height, width = data_set.raw_size or (480, 848)
    if height // scale < 48:
        raise UsageError(f"scale must be 1..{height // 48} for '{name}', got {scale}")
    return root, (height // scale, width // scale)


def write_viper(out: Path, scale: int = 1, sequences: int = 2, colours: bool = False) -> Tree:
    """VIPER with two labelled frames per sequence. The bonnet is in every odd sequence; the others have a car at the lower edge.

    Args:
        out: data root; the tree is ``out/VIPER``.
        scale: divisor of the published size, 1 for 1920x1080.
        sequences: 001, 002 ...
        colours: labels in the colours of the class list instead of ids.
    """
    root, size = _begin(out, "viper", scale)
    tree = Tree("viper", root, size)
    palette = np.array([colour for _, colour in VIPER_CLASSES], np.uint8)
    for number in range(1, sequences + 1):
        for position, t in enumerate((10, 20)):
            images, raw = _draw("viper", "sim", 10 * number + position, size, 3)
            bonnet = _cars(images, raw, ego=number % 2 == 1)
            for k, image, ids in zip(range(t - 2, t + 1), images, raw, strict=True):
                _save(image, root / f"train/img/{number:03d}/{number:03d}_{k:05d}.jpg")
                label = palette[ids].transpose(2, 0, 1) if colours else ids
                _save(label, root / f"train/cls/{number:03d}/{number:03d}_{k:05d}.png")
            key = f"{number:03d}_{t:05d}"
            tree.raw[key], tree.own_car[key] = raw[-1], bonnet
    return tree


CITYSCAPES = {
    "train": (("aachen", "000000", 19), ("bochum", "000000", 313), ("hamburg", "000000", 42)),
    "val": (("frankfurt", "000000", 294), ("frankfurt", "000001", 576), ("lindau", "000000", 19)),
}
"""City, recording and labelled frame of the fixture's snippets."""


def write_cityscapes(out: Path, scale: int = 1, complete: bool = True, train_labels: bool = True) -> Tree:
    """Cityscapes-Seq, three snippets in train and three in val.

    Args:
        out: data root; the tree is ``out/Cityscapes``.
        scale: divisor of the published size, 1 for 2048x1024.
        complete: all thirty names of a snippet (copies beside the rendered three), or those three only.
        train_labels: write ``gtFine/train``.
    """
    root, size = _begin(out, "cityscapes_seq", scale)
    tree = Tree("cityscapes_seq", root, size)
    for split, snippets in CITYSCAPES.items():
        for number, (city, recording, t) in enumerate(snippets):
            images, raw = _draw("cityscapes_seq", "cam", 100 * (split == "val") + number, size, 3)
            stem = f"{city}/{city}_{recording}"

            def file(k: int, split: str = split, stem: str = stem) -> Path:
                return root / f"leftImg8bit_sequence/{split}/{stem}_{k:06d}_leftImg8bit.png"

            for k, image in zip(range(t - 2, t + 1), images, strict=True):
                _save(image, file(k))
            for k in range(t - 19, t + 11) if complete else ():
                if not t - 2 <= k <= t:
                    shutil.copyfile(file(t - 2 if k < t else t), file(k))
            if split == "val" or train_labels:
                _save(raw[-1], root / f"gtFine/{split}/{stem}_{t:06d}_gtFine_labelIds.png")
            tree.raw[f"{city}_{recording}_{t:06d}"] = raw[-1]
    return tree


def write_synthia(out: Path, scale: int = 1, frames: int = 4) -> Tree:
    """SYNTHIA-Seq: one video, every frame labelled, ``frames - 1`` clips of two frames.

    Args:
        out: data root; the tree is ``out/SynthiaSeq``.
        scale: divisor of the published size, 1 for 1280x760.
    """
    import cv2

    root, size = _begin(out, "synthia_seq", scale)
    tree = Tree("synthia_seq", root, size)
    images, raw = _draw("synthia_seq", "sim", 1000, size, frames)
    video, view = root / "SEQS-04-DAWN", "Stereo_Left/Omni_F"
    for t in range(frames):
        _save(images[t], video / f"RGB/{view}/{t:06d}.png")
        instance = np.broadcast_to(np.arange(size[1], dtype=np.uint16), size)
        label = np.stack(
            [np.zeros(size, np.uint16), instance, raw[t].astype(np.uint16)], axis=-1
        )  # OpenCV's order: BGR
        path = video / f"GT/LABELS/{view}/{t:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", label)[1].tobytes())
        if t:
            tree.raw[f"SEQS-04-DAWN_{t:06d}"] = raw[t]
    return tree


def write_frames(out: Path, scale: int = 1) -> Tree:
    """Footage of one's own in ``out/site``: ``north`` (jpg, labelled, img1 img2 img10 img11) and ``south`` (png, odd size, no
    label), with a ``frames.yaml``."""
    root, size = out / "site", _begin(out / "site", "frames", scale)[1]
    tree = Tree("frames", root, size)
    for index, (folder, suffix, numbers) in enumerate((("north", "jpg", (1, 2, 10, 11)), ("south", "png", (1, 2, 3)))):
        shape = size if folder == "north" else (size[0] + 3, size[1] - 5)
        images, raw = _draw("frames", "cam", 2000 + index, shape, len(numbers))
        for image, ids, number in zip(images, raw, numbers, strict=True):
            _save(image, root / f"images/{folder}/img{number}.{suffix}")
            if folder == "north":
                _save(ids, root / f"labels/{folder}/img{number}.png")
                tree.raw[f"{folder}__img{number}"] = ids
    space = named_space("viper2cityscapes")
    table = space.ids["cityscapes_seq"]
    ids = {raw: space.classes[train] for raw, train in enumerate(table.tolist()) if train != IGNORE}
    described = {"folder": "images", "labels": "labels", "ids": ids, "classes": space.name, "size": list(size)}
    (root / "frames.yaml").write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
    return tree


def write_all(out: Path, scale: int = 1, complete: bool | None = None) -> dict[str, Tree]:
    """All four trees under one data root. Whole snippets of Cityscapes only where they are small, unless told otherwise."""
    whole = scale > 1 if complete is None else complete
    trees = (
        write_viper(out, scale),
        write_cityscapes(out, scale, whole),
        write_synthia(out, scale),
        write_frames(out, min(scale, 8)),
    )
    return {tree.name: tree for tree in trees}


# Damaged twins --------------------------------------------------------------------------------------------------------


def _damage(root: Path, item: Item, kind: str) -> Iterator[str]:
    """Damage a clip's files; yields the culprit's relative path."""
    frame, previous, label = item.frames[-1], item.frames[-2], str(item.label)
    file = root / frame
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
        yield frame
    elif kind == "truncated_label":
        (root / label).write_bytes((root / label).read_bytes()[: (root / label).stat().st_size * 6 // 10])
        yield label
    elif kind == "empty_file":
        file.write_bytes(b"")
        yield frame
    elif kind in ("missing_frame", "missing_previous", "missing_label"):
        lost = {"missing_frame": frame, "missing_previous": previous, "missing_label": label}[kind]
        (root / lost).unlink()
        yield lost
    elif kind in ("wrong_size", "wrong_size_label"):
        path = root / (frame if kind == "wrong_size" else label)
        picture = Image.open(path)
        if kind == "wrong_size_label" and picture.mode == "RGB":  # 16 bits, which Pillow would lose
            import cv2

            pixels = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
            path.write_bytes(cv2.imencode(".png", pixels[:-3])[1].tobytes())
        else:
            picture.crop((0, 0, picture.width, picture.height - 3)).save(path)
        yield frame if kind == "wrong_size" else label
    elif kind == "not_an_image":
        file.write_text("<html>404 Not Found</html>", encoding="utf-8")
        yield frame
    elif kind == "unreadable":  # a folder in the file's place: refused by the system even for root
        file.unlink()
        file.mkdir()
        (file / "inside.txt").write_text("", encoding="utf-8")
        yield frame
    elif kind == "stray":
        copy = file.with_name(f"copy of {file.name}")
        shutil.copyfile(file, copy)
        yield str(copy.relative_to(root).as_posix())
    elif kind == "empty_folder":
        empty = file.parent.parent / "999"
        empty.mkdir()
        yield str(empty.relative_to(root).as_posix())


KINDS = (
    "truncated", "truncated_label", "empty_file", "missing_frame", "missing_previous", "missing_label", "wrong_size",
    "wrong_size_label", "not_an_image", "unreadable", "stray", "empty_folder",
)  # fmt: skip
"""What `corrupt` can do."""


def corrupt(tree: Tree, kind: str, into: Path, split: str = "train") -> tuple[Tree, str]:
    """A twin of a tree under ``into`` with one thing wrong in the second clip of a split, and the culprit's relative path.

    Raises:
        UsageError: unknown kind.
    """
    if kind not in KINDS:
        raise unknown("kind of damage", kind, KINDS)
    root = into / tree.root.name
    shutil.copytree(tree.root, root)
    (culprit,) = _damage(root, tree.data.items(root, split)[1], kind)
    return replace(tree, root=root), culprit
