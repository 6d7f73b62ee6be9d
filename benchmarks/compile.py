"""Memory and roofline times of a config on an accelerator, from its compiler; nothing is run.

python -m benchmarks.compile --config configs/res_res.py --device h100 --batch 32,128
python -m benchmarks.compile --config configs/res_res.py --what sample --batch 64
python -m benchmarks.compile --config configs/res_res.py --batch 32 --devices 8

No accelerator is needed. Memory is as planned by the compiler. Times are rooflines: for each
operation the longer of moving its bytes and computing its products. A device is slower, see
docs/performance.md. All figures are for one device, even if several share a step.
"""

import json
import time
from pathlib import Path
from typing import Any

import jax
from absl import flags

from benchmarks import hlo, roofline, topology
from benchmarks.topology import Device
from diffusion_jax.config.experiment import Experiment
from scripts.cli import app, config_flag, flag_values

config_flag.define("The experiment.", default="res_res")
DEVICE = flags.DEFINE_enum("device", "h100", topology.names(), "A file in benchmarks/devices/.")
WHAT = flags.DEFINE_enum("what", "train", ["train", "sample"], "A training step, or all sampling.")
DEVICES = flags.DEFINE_integer("devices", 1, "(train) Number of devices, each with a batch.", 1)
BATCH = flags.DEFINE(
    flag_values.List(flags.IntegerParser(1)),
    "batch",
    [32, 128],
    "Images on one device; two sizes give the memory of an image.",
    serializer=flag_values.COMMAS,
)
DTYPE = flags.DEFINE_enum("dtype", "bfloat16", ["float32", "bfloat16"], "Of the computation.")
SHARE = flags.DEFINE_float(
    "memory_share", 0.75, "Share of the memory for JAX: XLA_PYTHON_CLIENT_MEM_FRACTION.", 0, 1
)
TOP = flags.DEFINE_integer("top", 10, "Number of memory-bound operations to list.", 0)
JSON = flags.DEFINE_string("json", None, "File to write the figures to, too.")
COMPARE = flags.DEFINE_string("compare", None, "An earlier --json file, to print its figures, too.")
HLO = flags.DEFINE_string("hlo", None, "Folder to write the compiled programs to.")


def main() -> None:
    batches = sorted(set(BATCH.value))
    if not batches:
        raise ValueError("--batch is empty; for example: --batch 32,128")
    if WHAT.value == "sample" and DEVICES.value > 1:
        raise ValueError(
            f"--devices={DEVICES.value} is for --what=train; in sampling, devices are independent"
        )
    device = topology.device(DEVICE.value)
    count = f"each of {DEVICES.value} " if DEVICES.value > 1 else ""
    earlier = json.loads(Path(COMPARE.value).read_text())["programs"] if COMPARE.value else []
    print(
        f"{WHAT.value}, {DTYPE.value}, compiled for {count}{device.name} with JAX {jax.__version__}"
    )
    programs = [compile_program(device, batch) for batch in batches]
    for figures in programs:
        same = [before for before in earlier if before["batch"] == figures["batch"]]
        show(figures, same[0] if same else None)
    memory = memory_of(programs, device)
    for name, value in memory.items():
        print(f"{name:>32}  {value:,.3f}" if isinstance(value, float) else f"{name:>32}  {value}")
    if JSON.value:
        about = {"device": device.name, "jax": jax.__version__, "what": WHAT.value}
        about |= {"dtype": DTYPE.value, "memory": memory, "programs": programs}
        Path(JSON.value).write_text(json.dumps(about, indent=2) + "\n")


def compile_program(device: Device, batch: int) -> dict[str, Any]:
    """Compiles the program for a batch of this size; returns its figures."""
    from benchmarks import programs

    jax.config.update("jax_enable_compilation_cache", False)
    targets = device.compile_only(DEVICES.value)
    config = config_flag.value("res_res")
    config.batch_size, config.model.dtype = batch * DEVICES.value, DTYPE.value
    Experiment.from_config(config)
    if config.model.get("num_classes", 0) is None:
        raise ValueError("config.model.num_classes=None comes from the data; give it as a number")
    if batch % config.micro_batches:
        parts = config.micro_batches
        raise ValueError(f"--batch={batch} is not divisible by config.micro_batches={parts}")
    lower = {"train": programs.training, "sample": programs.sampling}[WHAT.value]
    program = lower(config, targets)
    begin = time.perf_counter()
    result = program.lowered.compile()
    seconds = time.perf_counter() - begin
    text = result.as_text()
    if HLO.value:
        Path(HLO.value).mkdir(parents=True, exist_ok=True)
        (Path(HLO.value) / f"{WHAT.value}_{DEVICE.value}_{batch}.txt").write_text(text)
    steps = hlo.operations(text, program.rows, program.parameters)
    memory = result.memory_analysis()
    kept = memory.argument_size_in_bytes - memory.alias_size_in_bytes
    classes = roofline.table(steps, device.rates)
    whole = {name: sum(row[name] for row in classes.values()) for name in device.rates}
    peak = getattr(device.rates["peak"], DTYPE.value)
    return {
        "batch": batch,
        "compile_seconds": seconds,
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "peak": kept + memory.temp_size_in_bytes + memory.output_size_in_bytes,
        "model_flops": program.model_flops,
        "classes": classes,
        "images_per_second": {name: batch / seconds for name, seconds in whole.items()},
        "mfu": {name: program.model_flops / s / peak for name, s in whole.items()},
        "bound_by_memory": roofline.bound_by_memory(steps, device.rates["peak"], TOP.value),
        "loop": roofline.longest_loop(steps, device.rates, TOP.value),
    }


def memory_of(programs: list[dict[str, Any]], device: Device) -> dict[str, float | int]:
    """Estimates fixed memory and memory per image from the smallest and the largest batch."""
    least, most = programs[0], programs[-1]
    room = SHARE.value * device.memory
    figures = {"memory_gb": device.memory / 1e9, "for_jax_gb": room / 1e9}
    if least is most:
        return figures
    per_image = (most["peak"] - least["peak"]) / (most["batch"] - least["batch"])
    fixed = least["peak"] - per_image * least["batch"]
    return figures | {
        "fixed_gb": fixed / 1e9,
        "per_image_gb": per_image / 1e9,
        "largest_batch": max(int((room - fixed) // per_image), 0),
    }


def show(figures: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Prints the figures of a batch, below earlier figures if there are any."""
    for each in filter(None, (before, figures)):
        sizes = ", ".join(
            f"{n} {each[n] / 1e9:.2f} GB" for n in ("arguments", "temporaries", "peak")
        )
        print(f"\nbatch {each['batch']}{' before' if each is before else ''}: {sizes}")
        show_classes(each["classes"], each["batch"])
        for name, rate in each["images_per_second"].items():
            mfu = each["mfu"][name]
            print(f"    roofline, {name} rates: {rate:.0f} images/s, MFU {mfu:.2f}")
    print("\nBound by memory, peak rates:")
    for step in figures["bound_by_memory"]:
        times = f"{step['times']} x " if step["times"] > 1 else ""
        moved = f"{times}{step['bytes'] / 1e6:.0f} MB"
        place = step["source"].partition("/")[2] or step["name"]
        print(f"{1e3 * step['seconds']:8.2f} ms  {moved:>14}  {step['class']:13.13}  {place[-70:]}")
    if loop := figures["loop"]:
        idle = loop["of_parameters"]
        print(f"\nA step of the loop of {loop['steps']}:")
        show_classes(loop["classes"], figures["batch"])
        # In training, gradients of micro-batches are added in the loop.
        outside = ", which could be moved out" if WHAT.value == "sample" else ""
        print(
            f"    {idle['operations']} operations of parameters' size in it{outside}: "
            f"{idle['bytes'] / 1e9:.3f} GB a step"
        )
        for source, moved in idle["sources"].items():
            print(f"{moved / 1e6:12.1f} MB  {source[-80:]}")


def show_classes(classes: dict[str, dict[str, float]], batch: int) -> None:
    """Prints the operations by class, and their sums."""
    print(f"{'':>36}{'number':>9}{'GFLOP/img':>11}{'GB':>9}{'ms peak':>10}{'realistic':>11}")
    rows = list(classes.items())
    total = {name: sum(row[name] for _, row in rows) for name in rows[0][1]}
    for kind, row in [*rows, ("together", total)]:
        flops, moved = row["flops"] / batch / 1e9, row["bytes"] / 1e9
        ms = [1e3 * row[name] for name in ("peak", "realistic")]
        numbers = f"{row['operations']:9.0f}{flops:11.1f}{moved:9.2f}{ms[0]:10.2f}{ms[1]:11.2f}"
        print(f"{kind:>36}{numbers}")


if __name__ == "__main__":
    app.run(main)
