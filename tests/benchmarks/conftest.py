"""What BENCHMARKS.md tells of the run itself."""

from typing import Any

import torch


def pytest_benchmark_update_json(config: Any, benchmarks: Any, output_json: dict[str, Any]) -> None:
    output_json["libraries"] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
