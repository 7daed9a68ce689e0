"""What a network costs: parameters, and floating-point operations per frame, counted without computing anything."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.core.errors import RunError, UsageError

from .build import build_segmenter, network_names, rounded_size


def costs(height: int, width: int, num_classes: int = 15) -> list[dict[str, Any]]:
    """For every network: ``network``, ``parameters``, ``flops`` per frame, ``features`` as channels, height, width; of one that
    cannot be loaded, why (``broken``).

    ``flops`` are of one frame's forward pass through encoder and classifier (fusion ``none``, no auxiliary head), a multiply-add
    counted as two, at the nearest size that the network takes. A training step is about three times this per frame with
    gradient. The pass runs on torch's meta device, which knows shapes only.
    """
    rows = []
    for name in network_names():
        try:
            rows.append(_measured(name, height, width, num_classes))
        except (RunError, UsageError) as error:
            rows.append({"network": name, "broken": str(error)})
    return rows


@torch.no_grad()
def _measured(network: str, height: int, width: int, num_classes: int) -> dict[str, Any]:
    with torch.device("meta"):
        segmenter = build_segmenter(network, "none", num_classes).eval()
        frame = torch.empty(1, 3, *rounded_size(network, height, width))
    with FlopCounterMode(display=False) as counter:
        features, _ = segmenter.encode(frame)
        segmenter.classify(features)
    return {
        "network": network,
        "parameters": sum(p.numel() for p in segmenter.parameters()),
        "flops": counter.get_total_flops(),
        "features": list(features.shape[1:]),
    }
