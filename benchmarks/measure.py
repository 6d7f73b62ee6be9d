"""Timing, and the figures that follow from it, for the speed benchmarks."""

import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from benchmarks.flops import peak_tflops
from diffusion_jax import parallel
from scripts.cli import config_flag

config_flag.define("The experiment.", default="res_res")
BATCH = flags.DEFINE_integer("batch", 8, "Images at a time, on all devices.", 1)
DTYPE = flags.DEFINE_enum("dtype", "bfloat16", ["float32", "bfloat16"], "Of the computation.")
BLOCKS = flags.DEFINE_integer("blocks", 5, "Timed blocks; their median is reported.", 1)
CALLS = flags.DEFINE_integer("calls", 4, "Calls in each block.", 1)
JSON = flags.DEFINE_string("json", None, "File to write the figures to, too.")


def config_from_flags() -> ConfigDict:
    """Returns the config with --batch and --dtype; turns off the compilation cache."""
    jax.config.update("jax_enable_compilation_cache", False)
    config = config_flag.value("res_res")
    config.batch_size = BATCH.value
    config.model.dtype = DTYPE.value
    parallel.split_cpu(config.cpu_devices, config.batch_size)
    return config


def seconds_per_call(call: Callable[[], object]) -> tuple[float, float, list[float]]:
    """Measures (seconds to compile, median seconds of a call, mean of each block).

    call: starts the work and returns its result, without waiting.
    """

    def timed(calls: int) -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            result = call()
        jax.block_until_ready(result)
        return (time.perf_counter() - begin) / calls

    first = timed(1)
    timed(1)  # warm-up
    blocks = [timed(CALLS.value) for _ in range(BLOCKS.value)]
    median = statistics.median(blocks)
    return max(first - median, 0.0), median, blocks


def describe(config: ConfigDict) -> dict[str, Any]:
    """Returns the entries of the config that describe the figures."""
    return {
        "blocks": config.model.blocks,
        "width": config.model.width,
        "levels": config.model.levels,
        "resolution": config.data.resolution,
        "dtype": config.model.dtype,
        "batch": config.batch_size,
    }


def report(name: str, config: ConfigDict, timing: tuple, flops: float, **more: object) -> None:
    """Prints the figures, and writes them to --json if given. flops: of one call."""
    compile_seconds, seconds, blocks = timing
    device = jax.local_devices()[0]
    tflops = flops / seconds / 1e12
    peak = peak_tflops(device) if DTYPE.value == "bfloat16" else None
    memory_stats = device.memory_stats() or {}
    peak_bytes = memory_stats.get("peak_bytes_in_use")
    of_device = peak_bytes is not None
    if not of_device:
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {
        "benchmark": name,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "jax": jax.__version__,
        **describe(config),
        "seconds_per_call": seconds,
        "seconds_per_call_of_each_block": blocks,
        "images_per_second": config.batch_size / seconds,
        "tflops_per_second": tflops,
        "share_of_peak": tflops / (peak * jax.device_count()) if peak else None,
        "compile_seconds": compile_seconds,
        "peak_memory_gb": peak_bytes / 1e9,
        "peak_memory_of": "device" if of_device else "host process",
        **more,
    }
    for key, value in figures.items():
        print(f"{key:>32}  {value:.4g}" if isinstance(value, float) else f"{key:>32}  {value}")
    if JSON.value:
        Path(JSON.value).write_text(json.dumps(figures, indent=2) + "\n")
