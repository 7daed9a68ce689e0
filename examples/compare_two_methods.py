"""Run two methods on the same replicates and plot what one wins over the other.

python examples/compare_two_methods.py [SHIFT [SEEDS]]
"""

from __future__ import annotations

import sys

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import pandas as pd

import bench


def main(shift: str = "ministreet", seeds: int = 3) -> pd.DataFrame:
    """Two methods by replicate: mIoU in percent."""
    for seed in range(seeds):
        for method in ("adabn", "stpl"):
            bench.run(method, shift, seed)  # a finished run is found again
    table = bench.records(shift)
    table = table[(table["options"] == "") & (table["seed"] < seeds)]
    scores = table.pivot(index="seed", columns="method", values="miou")[["adabn", "stpl"]]
    axes = scores.plot.bar(
        ylabel="mIoU, %", title=f"{shift}: {(scores.stpl - scores.adabn).mean():+.1f} points by STPL"
    )
    axes.figure.savefig("comparison.png")
    plt.close(axes.figure)
    return scores


if __name__ == "__main__":
    print(main(*sys.argv[1:2], *map(int, sys.argv[2:3])))
