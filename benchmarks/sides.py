"""Sides of `against_pytorch`: the same programs in JAX and in PyTorch, each in a process."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from ml_collections import ConfigDict

# (calls) -> seconds of one call, after a first call that may compile.
Timed = Callable[[int], float]
PROGRAMS = ("forward", "step")


@dataclass
class Side:
    """One of the processes.

    about: versions, device and, once measured, layouts. seconds: time of a call in each block, by
    program. first: seconds of the first call, by program.
    """

    name: str
    process: multiprocessing.process.BaseProcess
    connection: Connection
    about: dict[str, Any] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def start(cls, name: str, config: ConfigDict) -> "Side":
        """Starts a process that serves one of `SIDES`."""
        context = multiprocessing.get_context("spawn")
        near, far = context.Pipe()
        process = context.Process(target=_serve, args=(name, config, far), daemon=True)
        process.start()
        far.close()
        return cls(name, process, near)

    def prepare(self, program: str) -> None:
        """Compiles and warms up."""
        self.first[program], self.about = self._request("prepare", program)

    def measure(self, program: str, calls: int) -> None:
        """Measures one block."""
        self.seconds.setdefault(program, []).append(self._request("measure", program, calls))

    def median(self, program: str) -> float:
        return statistics.median(self.seconds[program])

    def stop(self) -> None:
        self.connection.close()
        self.process.join(10)
        self.process.kill()

    def _request(self, *request: object) -> Any:
        try:
            self.connection.send(request)
            return self.connection.recv()
        except (EOFError, OSError):
            raise ValueError(f"The process of {self.name} has ended; see above") from None


def _serve(name: str, config: ConfigDict, connection: Connection) -> None:
    """Serves requests until the connection closes."""
    side = SIDES[name](config)
    timed: dict[str, Timed] = {}
    while True:
        try:
            request, program, *rest = connection.recv()
        except EOFError:
            return
        if request == "prepare":
            begin = time.perf_counter()
            timed[program] = side.prepare(program)
            connection.send((time.perf_counter() - begin, side.about()))
        else:
            connection.send(timed[program](*rest))


class Jax:
    """This project's network and training step."""

    def __init__(self, config: ConfigDict) -> None:
        import jax

        from diffusion_jax import parallel
        from diffusion_jax.config.experiment import Experiment
        from diffusion_jax.runs.train import init_train_state, make_sharding

        parallel.split_cpu(config.cpu_devices, config.batch_size)
        self.config, self.jax, self.parallel = config, jax, parallel
        self.experiment = Experiment.from_config(config)
        self.sharding = make_sharding(self.experiment)
        self.state = self.sharding.init(lambda: init_train_state(self.experiment))

    def about(self) -> dict[str, Any]:
        device = self.jax.devices()[0].device_kind
        return {"version": f"JAX {self.jax.__version__}", "device": device}

    def prepare(self, program: str) -> Timed:
        call = {"forward": self._forward, "step": self._step}[program]()

        def timed(calls: int) -> float:
            begin = time.perf_counter()
            for _ in range(calls):
                result = call()
            self.jax.block_until_ready(result)
            return (time.perf_counter() - begin) / calls

        timed(1)
        timed(1)
        return timed

    def _forward(self) -> Callable[[], Any]:
        model, params = self.experiment.model, self.state.params

        def apply(params: Any, _: None, batch: tuple[Any, ...]) -> Any:
            return model.apply({"params": params}, *batch)

        images, labels = _batch(self.config)
        c_noise = np.arange(1, len(images) + 1, dtype=np.float32)
        batch = self.parallel.shard((images / np.float32(127.5) - 1, c_noise, labels))
        program = self.parallel.map_batch_program(apply)
        return lambda: program(params, None, batch)

    def _step(self) -> Callable[[], Any]:
        from diffusion_jax.runs.train import parallel_step

        step = parallel_step(self.experiment, self.sharding)
        images, labels = _batch(self.config)
        batch = self.parallel.shard({"image": images, "label": labels})

        def call() -> Any:
            self.state, metrics = step(self.state, batch)
            return metrics

        return call


class PyTorch:
    """The same in PyTorch, measured in the faster of both image layouts."""

    compiled = False

    def __init__(self, config: ConfigDict) -> None:
        import torch

        self.config, self.torch = config, torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.layouts: dict[str, dict[str, float]] = {}
        # As in JAX: float32 products may use TF32 where the device has it.
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
        if self.device == "cpu":
            torch.set_num_threads(len(os.sched_getaffinity(0)))

    def about(self) -> dict[str, Any]:
        on_gpu = self.device == "cuda"
        return {
            "version": f"PyTorch {self.torch.__version__}",
            "device": self.torch.cuda.get_device_name() if on_gpu else "cpu",
            "seconds_by_layout": self.layouts,
        }

    def prepare(self, program: str) -> Timed:
        layouts = {"NCHW": self.torch.contiguous_format, "NHWC": self.torch.channels_last}
        if self.compiled and self.device == "cuda":
            del layouts["NCHW"]  # the compiler would change it
        found = {}
        self.layouts[program] = {}
        for name, layout in layouts.items():
            found[name] = self._timed(program, layout)
            found[name](1)
            found[name](1)
            self.layouts[program][name] = min(found[name](1) for _ in range(3))
        return found[min(found, key=self.layouts[program].__getitem__)]

    def _timed(self, program: str, layout: Any) -> Timed:
        from benchmarks.pytorch_step import Trainer

        trainer = Trainer(self.config, self.device, layout, compiled=self.compiled)
        images, labels = _batch(self.config)
        pixels = self.torch.tensor(images.transpose(0, 3, 1, 2), device=self.device)
        labels = self.torch.tensor(labels.astype(np.int64), device=self.device)
        x = (pixels.float() / 127.5 - 1).contiguous(memory_format=layout)
        c_noise = self.torch.arange(1.0, len(x) + 1, device=self.device)

        def timed(calls: int) -> float:
            begin = time.perf_counter()
            for _ in range(calls):
                if program == "step":
                    trainer.step(pixels, labels)
                else:
                    trainer.forward(x, c_noise, labels)
            if self.device == "cuda":
                self.torch.cuda.synchronize()
            return (time.perf_counter() - begin) / calls

        return timed


class PyTorchCompiled(PyTorch):
    """The same with torch.compile."""

    compiled = True


SIDES = {"JAX": Jax, "PyTorch": PyTorch, "PyTorch compiled": PyTorchCompiled}


def _batch(config: ConfigDict) -> tuple[np.ndarray, np.ndarray]:
    """Returns random uint8 images and labels."""
    generator = np.random.default_rng(0)
    side, rows = config.data.resolution, config.batch_size
    images = generator.integers(256, size=(rows, side, side, config.model.channels), dtype=np.uint8)
    return images, generator.integers(config.model.num_classes, size=rows, dtype=np.int32)
