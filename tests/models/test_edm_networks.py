"""The networks of EDM and EDM2, against PyTorch; their files."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import nvidia_pickles
import pytest
from edm_sampler import CHURN, algorithm_2, walk
from forks import run_each
from numpy.testing import assert_allclose

from configs import edm2_s64, edm2_xs64, edm64, edm_cifar10
from diffusion_jax.config.experiment import Experiment, make_model
from diffusion_jax.diffusion import losses
from diffusion_jax.diffusion.parameterizations import (
    apply_network,
    denoiser_from_network,
    to_prediction,
)
from diffusion_jax.files import torch_writer
from diffusion_jax.importers import edm, edm2
from diffusion_jax.importers.imported_model import with_settings
from diffusion_jax.importers.programs import PROGRAMS
from diffusion_jax.models import EDM2, SongUNet
from diffusion_jax.models.layers import magnitude_preserving
from diffusion_jax.sampling import SOLVERS
from diffusion_jax.training.state import TrainState, apply_gradients, init_params

NCSN = {"embedding": "fourier", "noise_multiple": 2, "encoder": "residual", "taps": (1, 3, 3, 1)}
SMALL = {"img_resolution": 8, "img_channels": 3, "label_dim": 5, "num_blocks": 1}
# The network has no maps of 16x16.
SMALL |= {"channel_mult": [1, 2], "attn_resolutions": [16, 4]}
PRECOND = SMALL | {"model_channels": 4, "channels_per_head": 4, "logvar_channels": 8}
SONG = SMALL | {"model_channels": 8, "augment_dim": 9, "model_type": "SongUNet"}
OF_NCSN = {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"}
OF_NCSN |= {"resample_filter": [1, 3, 3, 1]}


def golden_state(path):
    """(arrays, state dict) of a golden file."""
    with np.load(path) as data:
        arrays = {name: data[name] for name in data.files}
    state = {n.removeprefix("state/"): a for n, a in arrays.items() if n.startswith("state/")}
    return arrays, state


def learned(model, side):
    """The number of parameters that training changes."""
    shapes = jax.eval_shape(lambda: init_params(model, 0, side))
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    return sum(leaf.size for path, leaf in leaves if not path[-1].key.startswith("fixed_"))


def test_parameters_of_the_published_networks():
    """The counts of the authors' PyTorch modules."""
    for width, count in ((256, 497_803_173), (320, 777_492_325), (384, 1_119_276_837)):
        assert learned(EDM2(3, 1000, width=width), 64) == count
    assert learned(SongUNet(3, 10, augment_dim=9), 32) == 55_735_299
    assert learned(SongUNet(3, 10, augment_dim=9, **NCSN), 32) == 56_400_643
    for module, count in ((edm64, 295_899_267), (edm2_xs64, 124_710_949), (edm2_s64, 280_209_381)):
        assert learned(make_model(module.get_config()), 64) == count


def test_magnitude_preserving_operations():
    """Published numbers."""
    one, two = jnp.ones((1, 1, 1, 2)), jnp.full((1, 1, 1, 2), 2.0)
    assert_allclose(magnitude_preserving.mp_sum(one, two, 0.3), 1.706984, rtol=1e-6)
    side = magnitude_preserving.mp_concatenate(one, jnp.ones((1, 1, 1, 6)), 0.5)[0, 0, 0]
    assert_allclose(side, [1.414214] * 2 + [0.816497] * 6, rtol=1e-6)
    pair = magnitude_preserving.normalized(jnp.array([3.0, 4.0]), (0,))
    assert_allclose(pair, [0.848504, 1.131339], rtol=1e-6)


@pytest.fixture(scope="module")
def golden_edm2(tmp_path_factory):
    """(golden arrays, config, parameters), of a file as EDM2 writes it."""
    arrays, state = golden_state("tests/golden/edm2/tiny.npz")
    path = tmp_path_factory.mktemp("edm2") / "tiny.pkl"
    nvidia_pickles.write(path, "Precond", PRECOND, state, encoder=None)
    config = edm2_s64.get_config()
    imported = PROGRAMS["edm2"].read(path, config)
    return arrays, with_settings(config, imported.settings), imported.params


def denoised(config, params, arrays, labels, **changes):
    """(x0, uncertainty) of the config's network at the golden sigmas."""
    config = with_settings(config, changes)
    model, parameterization = make_model(config), Experiment.from_config(config).parameterization
    level = Experiment.from_config(config).schedule.level(jnp.asarray(arrays["sigma"]))

    @jax.jit
    def run(x, labels):
        network = lambda *inputs: model.apply({"params": params}, *inputs)  # noqa: E731
        output = apply_network(network, parameterization, x, level, labels)
        return to_prediction(parameterization, x, level, output).x0, output.uncertainty

    return run(jnp.asarray(arrays["x"]), labels)


def test_edm2_equals_pytorch(golden_edm2):
    arrays, config, params = golden_edm2
    config = with_settings(config, {"model.dtype": "float32"})
    labels = jnp.asarray(arrays["labels"], jnp.int32)
    x0, uncertainty = denoised(config, params, arrays, labels)
    assert_allclose(x0, arrays["y"], atol=1e-5)
    assert_allclose(uncertainty, arrays["u"], atol=1e-5)
    null, _ = denoised(config, params, arrays, jnp.full_like(labels, 5))
    assert_allclose(null, arrays["y_null"], atol=1e-5)
    # In bfloat16 within 1 %, in the root mean square.
    half, _ = denoised(config, params, arrays, labels, **{"model.dtype": "bfloat16"})
    assert 0 < jnp.sqrt(jnp.mean((half - x0) ** 2) / jnp.mean(x0**2)) < 0.01


def test_edm2_normalizes_kernels_and_keeps_fixed_parameters(golden_edm2):
    """Kernels keep a mean square of 1 for each output; the average is of those before that."""
    _, config, raw = golden_edm2
    model = make_model(config)
    config = with_settings(config, {"optimizer.weight_decay": 0.5, "optimizer.warmup_steps": 0})
    optimizer = Experiment.from_config(config).training.optimizer

    @jax.jit
    def updated(raw):
        params = model.constrained(jax.tree.map(jnp.asarray, raw))
        state = TrainState(jnp.zeros((), jnp.int32), params, params, optimizer.init(params))
        gradients = jax.tree.map(jnp.ones_like, params)
        copied = lambda step: jnp.ones(())  # noqa: E731
        new = apply_gradients(
            state, gradients, optimizer, ema_weight=copied, constrain=model.constrained
        )
        return state, new

    with jax.numpy_dtype_promotion("standard"):
        state, new = updated(raw)
    for params in (state.params, new.params):
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            if path[-1].key == "kernel":
                square = jnp.mean(leaf**2, axis=tuple(range(leaf.ndim - 1)))
                assert_allclose(square, 1, atol=1e-3)
    for name in ("fixed_frequencies", "fixed_phases"):
        fourier = "noise_fourier"
        assert jnp.all(new.params[fourier][name] == state.params[fourier][name])
    raw = new.ema_params["stem"]["kernel"]
    assert jnp.abs(jnp.mean(raw**2) - 1) > 1e-3
    assert_allclose(
        magnitude_preserving.normalized_kernel(raw), new.params["stem"]["kernel"], rtol=1e-6
    )
    # The loss is least where the uncertainty is its logarithm.
    slope = jax.grad(lambda u: losses.with_uncertainty(jnp.array([3.0]), u)[0])
    assert_allclose(slope(jnp.log(jnp.array([3.0]))), 0, atol=1e-6)


@pytest.mark.parametrize("name", ["ddpmpp", "ncsnpp"])
def test_ddpmpp_and_ncsnpp_equal_pytorch(golden, tmp_path, name):
    arrays, state = golden_state(golden / "song" / f"{name}.npz")
    # The filters are buffers, which the network here has no use for.
    more = {"enc.4x4_down.conv0.resample_filter": np.ones((1, 1, 2, 2), np.float32)}
    state = {f"model.{key}": array for key, array in (state | more).items()}
    arguments = SONG | (OF_NCSN if name == "ncsnpp" else {})
    nvidia_pickles.write(tmp_path / "a.pkl", "EDMPrecond", arguments, state)
    config = edm_cifar10.get_config()
    imported = PROGRAMS["edm"].read(tmp_path / "a.pkl", config)
    model = make_model(with_settings(config, imported.settings))
    x, c_noise = jnp.asarray(arrays["x"]), jnp.asarray(arrays["clock"])
    labels = jnp.asarray(arrays["labels"], jnp.int32)

    @jax.jit
    def run(condition):
        return model.apply({"params": imported.params}, x, c_noise, condition).estimate

    condition = {"label": labels, "augment": jnp.asarray(arrays["augment"])}
    assert_allclose(run(condition), arrays["y"], atol=1e-5)
    assert_allclose(run(labels), arrays["y_plain"], atol=1e-5)
    assert_allclose(run(jnp.full_like(labels, 5)), arrays["y_null"], atol=1e-5)


@pytest.mark.parametrize("options", [{"s_churn": 0.0}, CHURN])
def test_heun_on_an_imported_network_equals_edms_algorithm(golden, tmp_path, options):
    """Step by step in float64, the network in float32."""
    arrays, state = golden_state(golden / "song" / "ddpmpp.npz")
    state = {f"model.{key}": array for key, array in state.items()}
    nvidia_pickles.write(tmp_path / "a.pkl", "EDMPrecond", SONG, state)
    config = edm_cifar10.get_config()
    imported = PROGRAMS["edm"].read(tmp_path / "a.pkl", config)
    config = with_settings(config, imported.settings)
    model, schedule = make_model(config), Experiment.from_config(config).schedule
    network = partial(model.apply, {"params": imported.params})
    conditional = denoiser_from_network(network, Experiment.from_config(config).parameterization)
    labels = jnp.asarray(arrays["labels"], jnp.int32)

    def denoiser(x, level):
        return conditional(x, level, labels)

    @jax.jit
    def published(x, sigma):
        return denoiser(x, schedule.level(sigma)).x0

    steps = 6
    noises = np.random.default_rng(0).standard_normal((steps, 3, 8, 8, 3)).astype(np.float32)
    x = 80 * arrays["x"]
    ours = walk(
        SOLVERS["heun"](**options), schedule.sampling_schedule(steps), schedule, denoiser, x, noises
    )
    ramp = 80 ** (1 / 7) + np.arange(steps) / (steps - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))
    numbers = {"s_tmin": 0.0, "s_tmax": np.inf, "s_noise": 1.0} | options
    wanted = algorithm_2(
        x.astype(np.float64),
        noises.astype(np.float64),
        steps=steps,
        sigma=np.append(ramp**7, 0.0),
        second_order=True,
        D=lambda x, sigma: np.asarray(published(jnp.float32(x), jnp.float32(sigma)), np.float64),
        **numbers,
    )
    assert_allclose(ours, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("settings_of", "more"),
    [
        (edm.settings_of, {"model_type": "SongUNet"}),
        (edm.settings_of, {"model_type": "DhariwalUNet"}),
        (edm2.settings_of, {}),
    ],
)
def test_attention_is_at_the_named_sides_that_a_level_has(settings_of, more):
    def attention(**arguments):
        return settings_of(more | arguments, Path("a.pkl"))["model.attention"]

    three = {"channel_mult": [1, 2, 2]}
    assert attention(img_resolution=32, attn_resolutions=[64, 16, 7], **three) == (16,)
    assert attention(img_resolution=32, attn_resolutions=[], **three) == ()
    assert attention(img_resolution=16, attn_resolutions=[4, 8, 16, 16], **three) == (16, 8, 4)
    # The default sides of the programs, of which 64x64 images have only these with two levels.
    wanted = (32,) if more.get("model_type") == "DhariwalUNet" else ()
    assert attention(img_resolution=64, channel_mult=[1, 2]) == wanted


def test_mistakes_are_one_line_and_write_nothing(golden, tmp_path):
    _, state = golden_state(golden / "edm2" / "tiny.npz")
    write = nvidia_pickles.write
    write(tmp_path / "good.pkl", "Precond", PRECOND, state)
    whole = (tmp_path / "good.pkl").read_bytes()
    (tmp_path / "cut.pkl").write_bytes(whole[: len(whole) // 2])
    evil = whole.replace(b"torch.storage", b"posix.system!")
    assert evil != whole
    (tmp_path / "evil.pkl").write_bytes(evil)
    (tmp_path / "text.pkl").write_text("no pickle")
    torch_writer.write(tmp_path / "saved.pkl", {"ema": {}})
    write(tmp_path / "more.pkl", "Precond", PRECOND, state | {"unet.extra": np.ones(2, "f")})
    lost = {name: array for name, array in state.items() if name != "unet.out_gain"}
    write(tmp_path / "lost.pkl", "Precond", PRECOND, lost)
    write(tmp_path / "wide.pkl", "Precond", PRECOND | {"model_channels": 8}, state)
    write(tmp_path / "odd.pkl", "Precond", PRECOND | {"teeth": 3}, state)
    write(tmp_path / "filter.pkl", "Precond", PRECOND | {"resample_filter": [1, 3]}, state)
    write(tmp_path / "edm.pkl", "EDMPrecond", SONG, state)
    odd_arguments = {
        "text": ({"model_channels": "big"}, "model_channels=big of its network must be an int"),
        "part": ({"model_channels": 4.0}, "model_channels=4.0 of its network must be an int"),
        "zero": ({"model_channels": 0}, "model.width=0 must be at least 1"),
        "side": ({"img_resolution": 7}, "data.resolution=7 is not divisible"),
        "sideless": ({"img_resolution": None}, "img_resolution=None of its network must be"),
        "flat": ({"channel_mult": 2}, "channel_mult=2 of its network must be a list"),
        "sigma": ({"sigma_data": "x"}, "sigma_data=x of its network must be a number"),
        "endless": (
            {"num_blocks": 10**9},
            "its network has 2000000000 blocks, and the file 63 tensors",
        ),
        "latent": ({"img_channels": 4}, "as latents do, which need a decoder"),
    }
    for name, (arguments, _) in odd_arguments.items():
        write(tmp_path / f"{name}_.pkl", "Precond", PRECOND | arguments, state)
    nowhere = {name: value for name, value in PRECOND.items() if name != "img_resolution"}
    write(tmp_path / "nowhere.pkl", "Precond", nowhere, state)
    cases = [
        ("cut", "is damaged"),
        ("evil", "refers to"),
        ("text", "text.pkl"),
        ("saved", "is a file of torch.save, which EDM's are not"),
        ("more", "has a unet.extra"),
        ("lost", "has no unet.out_gain"),
        ("wide", "does not fit"),
        ("odd", "unknown argument, teeth"),
        ("filter", "resample_filter=[1, 3] of its network must be [1, 1]"),
        ("edm", "of class EDMPrecond, not Precond"),
        ("none", "none.pkl"),
        ("nowhere", "has no img_resolution"),
        *((f"{name}_", message) for name, (_, message) in odd_arguments.items()),
    ]
    before = sorted(tmp_path.iterdir())
    common = ["--from=edm2", "--config=configs/edm2_s64.py", f"--workdir={tmp_path / 'run'}"]
    given = [[*common, f"--model={tmp_path / name}.pkl"] for name, _ in cases]
    for (name, message), done in zip(cases, run_each("convert", given)):
        assert done.returncode == 1, name
        assert message in done.stderr, (name, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert sorted(tmp_path.iterdir()) == before
