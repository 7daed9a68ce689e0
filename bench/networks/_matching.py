"""Which tensor of a foreign checkpoint belongs where in a network: by names below a module, and by shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from bench.core.errors import RunError, UsageError

from ._filling import FEATURE_FUSIONS, Conversion, filled, fresh, needed

Shapes = Mapping[str, tuple[int, ...]]


class Match(NamedTuple):
    """What :func:`match` finds.

    Attributes:
        places: our name by theirs.
        modules: our module by theirs, where their names differ; the whole network is ``""``.
        doubtful: our module, and two of theirs that fit equally well, so that neither was taken.
    """

    places: dict[str, str]
    modules: dict[str, str]
    doubtful: dict[str, tuple[str, str]]


def by_names(
    checkpoint: Path, tensors: dict[str, Tensor], network: str, fusion: str, num_classes: int, rename: Sequence[str]
) -> Conversion:
    """A checkpoint of a registered network under any names; see ``published.convert``."""
    if not network:
        raise UsageError("Say which network the weights are of: --network NAME (see `bench list networks`)")
    if not num_classes:
        raise UsageError("Say how many classes the network has: --classes N, or --shift NAME, which also names them")
    for pair in rename:
        old, equals, new = pair.partition("=")
        if not equals or not any(_below(name, old) is not None for name in tensors):
            raise UsageError(f"--rename is THEIRS=OURS with a module of {checkpoint.name}, got '{pair}'")
        tensors = {_moved(name, old, new): value for name, value in tensors.items()}
    segmenter = fresh(network, fusion or "none", num_classes)
    ours, theirs = ({n: tuple(v.shape) for n, v in s.items() if needed(n)} for s in (segmenter.state_dict(), tensors))
    matched = match(ours, theirs)
    if not any(our_name.startswith("auxiliary_classifier.") for our_name in matched.places.values()):
        segmenter.auxiliary_classifier = None
    fused = any(our_name.startswith(("fusion.", "score_fusion.")) for our_name in matched.places.values())
    if fusion and fusion not in FEATURE_FUSIONS and not fused:
        raise UsageError(f"fusion '{fusion}' would change the scores; allowed: {', '.join(FEATURE_FUSIONS)}")
    for root, (first, second) in matched.doubtful.items():
        if any(needed(name) and name not in matched.places.values() for name in ours if _below(name, root) is not None):
            raise RunError(
                f"{checkpoint}: '{first}' and '{second}' fit '{root}' of network '{network}' equally well; say "
                f"--rename {first}={root} or --rename {second}={root}"
            )
    places = {name: _place(name, matched.places) for name in tensors}
    identity = ("names", network, fusion or "none", num_classes)
    return filled(checkpoint, tensors, places, segmenter, identity, renamed=matched.modules)


def _moved(name: str, old: str, new: str) -> str:
    rest = _below(name, old)
    return name if rest is None else _joined(new, rest)


def _place(name: str, places: Mapping[str, str]) -> str:
    """Where a tensor goes: as matched, a counter beside its statistics, the rest under its own name if that is free."""
    if name.endswith("num_batches_tracked"):
        beside = places.get(name.replace("num_batches_tracked", "running_mean"), name)
        return beside.replace("running_mean", "num_batches_tracked")
    return places.get(name, "" if name in places.values() else name)


def match(ours: Shapes, theirs: Shapes) -> Match:
    """Pair whole modules, the largest first: one of theirs fits where every tensor of ours has its like below it.

    Of several that fit, the one whose name ends most like ours is taken, and none where two do so equally. A module without a
    like is taken apart into its children, down to single tensors.
    """
    sizes = Counter(root for name in ours for root in _roots(name))
    roots = sorted({root for name in theirs for root in _roots(name)})
    matched, waiting = Match({}, {}, {}), [""]
    while waiting:
        waiting.sort(key=lambda root: sizes[root])
        root = waiting.pop()
        inside = {rest: shape for name, shape in ours.items() if (rest := _below(name, root)) is not None}
        least = 1 if "" in inside else 0  # a single tensor: weight to weight
        likeness = {
            r: (_common_end(r, root), r == root)
            for r in roots
            if all(theirs.get(_joined(r, rest)) == shape for rest, shape in inside.items())
        }
        best = [r for r, like in likeness.items() if like == max(likeness.values()) and (like[0] >= least or like[1])]
        places = {_joined(best[0], rest): _joined(root, rest) for rest in inside} if len(best) == 1 else {}
        if places and not places.keys() & matched.places.keys():
            matched.places.update(places)
            if best[0] != root:
                matched.modules[best[0]] = root
            continue
        if len(best) > 1:
            matched.doubtful[root] = best[0], best[1]
        if "" not in inside:
            waiting += {_joined(root, rest.split(".")[0]): None for rest in inside}
    return matched


def _roots(name: str) -> list[str]:
    """The network, the modules that a tensor is in, and itself."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts) + 1)]


def _joined(root: str, rest: str) -> str:
    return f"{root}.{rest}" if root and rest else root or rest


def _below(name: str, root: str) -> str | None:
    """The rest of a name below a module (``""`` is the network), or None; ``""`` of the name itself."""
    if not root:
        return name
    return "" if name == root else name[len(root) + 1 :] if name.startswith(f"{root}.") else None


def _common_end(a: str, b: str) -> int:
    """How many of the last parts of two names are the same, from the first on that is not a number: where blocks are counted
    from 0 and from 1, a number alone would pair them wrongly."""
    best = 0
    for count, (x, y) in enumerate(zip(reversed(a.split(".")), reversed(b.split(".")), strict=False), start=1):
        if x != y:
            break
        best = best if x.isdigit() else count
    return best
