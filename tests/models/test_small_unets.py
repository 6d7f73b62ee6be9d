"""The networks of MyDiffusionModel and of the OASIS system, against PyTorch; their files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forks import run_each
from numpy.testing import assert_allclose
from PIL import Image
from tiny import train

from configs import cifar10_64, landscape64, oasis64, oasis128
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.files import torch_reader, torch_writer
from diffusion_jax.importers.imported_model import with_settings
from diffusion_jax.importers.programs import PROGRAMS
from diffusion_jax.models import AttentionUNet, PlainUNet
from diffusion_jax.models.attention_unet import interpolation
from diffusion_jax.training.logging import read_metrics
from diffusion_jax.training.state import init_params

CONFIGS = {"mydiffusion": landscape64, "oasis": oasis64}
FOLDERS = {"mydiffusion": "attention_unet", "oasis": "plain_unet"}


def parameters(model, side):
    shapes = jax.eval_shape(lambda: init_params(model, 0, side))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_parameters_of_the_published_networks():
    """The counts of the authors' PyTorch modules."""
    assert parameters(PlainUNet(3, 0), 128) == 31_141_859
    assert parameters(PlainUNet(1, 0), 64) == 31_140_577
    assert parameters(PlainUNet(1, 0, norm="affine"), 64) == 31_140_577
    assert parameters(AttentionUNet(3, 0), 64) == 23_332_739
    assert parameters(AttentionUNet(3, 10), 64) == 23_335_299


@pytest.mark.parametrize("module", [landscape64, cifar10_64, oasis64, oasis128])
def test_configs_are_valid(module):
    Experiment.from_config(module.get_config())


@pytest.mark.parametrize("program", ["mydiffusion", "oasis"])
def test_an_imported_network_equals_pytorch(golden, program):
    folder = golden / FOLDERS[program]
    config = CONFIGS[program].get_config()
    imported = PROGRAMS[program].read(folder / "tiny.pt", config)
    model = imported.experiment.model
    with np.load(folder / "tiny.npz") as data:
        x, t, y = (jnp.asarray(data[name], jnp.float32) for name in ("x", "t", "y"))
        run = jax.jit(
            lambda *labels: model.apply({"params": imported.params}, x, t, *labels).estimate
        )
        if program == "oasis":
            assert_allclose(run(), y, atol=1e-5)
            return
        labels = jnp.asarray(data["labels"], jnp.int32)
        assert_allclose(run(labels), y, atol=1e-5)
        # The null label is no embedding at all.
        assert_allclose(run(jnp.full_like(labels, 5)), data["y_null"], atol=1e-5)


def test_bilinear_interpolation_keeps_the_corners():
    expected = [[1, 0], [2 / 3, 1 / 3], [1 / 3, 2 / 3], [0, 1]]
    assert_allclose(interpolation(2), expected, atol=1e-12)


@pytest.mark.parametrize("program", ["mydiffusion", "oasis"])
def test_mistakes_are_one_line_and_write_nothing(golden, tmp_path, program):
    good = golden / FOLDERS[program] / "tiny.pt"
    state = dict(torch_reader.read(good))
    state = {n: np.asarray(a, np.float32) for n, a in state.items()}
    head = {"mydiffusion": "outc", "oasis": "last_conv"}[program]
    norm = {"mydiffusion": "inc.double_conv.1", "oasis": "first_level.bnorm1"}[program]
    changes = {
        "missing": ({norm + ".bias": None}, norm + ".bias"),
        "more": ({"extra.weight": np.zeros(2, np.float32)}, "has a extra.weight"),
        "shape": ({head + ".bias": np.zeros(9, np.float32)}, f"{head}.bias has the shape (9,)"),
        "flat": ({head + ".weight": np.full(3, 1, np.float32)}, f"no {head}.weight"),
        "odd": ({head + ".weight": np.ones((3, 7, 1, 1), np.float32)}, "odd.pt"),
        "nan": ({norm + ".bias": state[norm + ".bias"] * np.nan}, "non-finite"),
        "empty": (dict.fromkeys(state), "no state dict"),
    }
    cases = []
    for name, (change, message) in changes.items():
        changed = {n: a for n, a in (state | change).items() if a is not None}
        torch_writer.write(tmp_path / f"{name}.pt", changed)
        cases.append(([f"--model={tmp_path / name}.pt"], message))
    whole = good.read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    cases += [
        ([f"--model={tmp_path / 'cut.pt'}"], "is damaged"),
        ([f"--model={tmp_path / 'no.pt'}"], "no.pt"),
        (["--out=x"], "--out belongs to"),
        ([], "--model is missing"),
        ([f"--model={good}", "--config.model.width=7"], "model.width=7 was given, but"),
    ]
    before = sorted(tmp_path.iterdir())
    common = [f"--from={program}", f"--workdir={tmp_path / 'run'}"]
    config = f"--config=configs/{'landscape64' if program == 'mydiffusion' else 'oasis64'}.py"
    given = [[*common, config, *arguments] for arguments, _ in cases]
    for (_, message), done in zip(cases, run_each("convert", given)):
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert sorted(tmp_path.iterdir()) == before


def slices(folder, count):
    """A folder of pictures with one bright square each, and a segmentation beside each."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(count):
        pixels = np.zeros((24, 24), np.uint8)
        y, x = generator.integers(0, 16, 2)
        pixels[y : y + 8, x : x + 8] = 255
        Image.fromarray(pixels).save(folder / f"case_{i}.png")
        Image.fromarray(pixels).convert("RGB").save(folder / f"seg_{i}.png")


@pytest.mark.usefixtures("ordinary_promotion")
def test_a_gray_folder_gives_gray_samples(tmp_path):
    slices(tmp_path / "data", 8)
    config = with_settings(
        oasis64.get_config(),
        {"data.name": f"folder:{tmp_path / 'data'}", "data.data_dir": str(tmp_path / "decoded")}
        | {"model.width": 4, "model.levels": 1, "data.resolution": 16, "data.threads": 1}
        | {"schedule.num_steps": 20, "sampling.steps": 3, "batch_size": 8, "steps": 4}
        | {"sampling.grid_rows": 2, "sampling.grid_columns": 2, "sample_every": 4}
        | {"log_every": 1, "ema.start": 2},
    )
    state = train(config, tmp_path / "run")
    values = read_metrics(tmp_path / "run")
    assert len(values) == 4
    assert all(np.isfinite(row["loss"]) for row in values)
    with Image.open(next((tmp_path / "run" / "samples").glob("*.png"))) as picture:
        assert picture.mode == "L"
    # Copied in two steps, averaged in the other two.
    different = jax.tree.map(lambda a, b: bool(np.any(a != b)), state.params, state.ema_params)
    assert all(jax.tree.leaves(different))
