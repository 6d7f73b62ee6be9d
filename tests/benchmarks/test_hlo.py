"""Bytes and FLOPs read from compiled programs, of texts for which they are worked out by hand."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from numpy.testing import assert_allclose
from tiny import tiny_transformer_config

from benchmarks import hlo, programs, roofline, topology

ROOT = Path(__file__).parents[2]
KERNEL = (3, 3, 16, 32)


def read(entry, *computations, rows=(4,), parameters=(KERNEL,)):
    """The operations of a program. entry: its lines; computations: texts of the others."""
    text = "\n\n".join([*computations, "ENTRY %main.1 (a: f32[]) -> f32[] {\n" + entry + "\n}"])
    return hlo.operations("HloModule m, is_scheduled=true\n\n" + text + "\n", set(rows), parameters)


def test_an_operation_moves_its_result_and_each_operand_once():
    (step,) = read(
        """  %x.1 = bf16[4,8,8,16]{3,2,1,0} parameter(0)
  %scale.1 = f32[16]{0} parameter(1)
  ROOT %f.1 = (f32[4,8,8,16]{3,2,1,0}, pred[4]{0}) fusion(%x.1, %scale.1, %x.1), \
kind=kLoop, calls=%fused.1, metadata={op_name="jit(f)/down_0/mul"}""",
        """%fused.1 (p0: bf16[4,8,8,16], p1: f32[16], p2: bf16[4,8,8,16]) -> \
(f32[4,8,8,16], pred[4]) {
  %p0 = bf16[4,8,8,16]{3,2,1,0} parameter(0)
  %p1 = f32[16]{0} parameter(1)
  %p2 = bf16[4,8,8,16]{3,2,1,0} parameter(2)
  %m.1 = f32[4,8,8,16]{3,2,1,0} multiply(%p0, %p2, %p1)
  %c.1 = pred[4]{0} compare(%p0, %p2)
  ROOT %t.1 = (f32[4,8,8,16]{3,2,1,0}, pred[4]{0}) tuple(%m.1, %c.1)
}""",
    )
    elements = 4 * 8 * 8 * 16
    assert step.bytes == 2 * elements + 4 * 16 + 4 * elements + 4
    assert (step.flops, step.times, step.loop) == (0, 1, "")
    assert (step.name, step.kind, step.source) == ("f.1", hlo.ACTIVATIONS, "jit(f)/down_0/mul")


def convolution(target, operands, result, labels="b01f_o01i->b01f", window="size=3x3 pad=1_1x1_1"):
    """The single operation of a program that calls cuDNN."""
    given = "\n".join(f"  %a.{i} = {shape} parameter({i})" for i, shape in enumerate(operands))
    names = ", ".join(f"%a.{i}" for i in range(len(operands)))
    (step,) = read(
        f"{given}\n  ROOT %c.1 = ({result}, u8[0]{{0}}) custom-call({names}), window={{{window}}}, "
        f'dim_labels={labels}, custom_call_target="__cudnn$conv{target}"'
    )
    assert step.kind == hlo.CONVOLUTION
    return step


def test_convolutions_count_as_the_forward_pass_they_belong_to():
    # 16 channels at 8x8 to 32 at 4x4, of 4 images: each output needs 3 * 3 * 16 multiply-adds.
    flops = 2 * (4 * 4 * 4 * 32) * (3 * 3 * 16)
    x, kernel, y = "bf16[4,8,8,16]{3,2,1,0}", "bf16[32,3,3,16]{3,2,1,0}", "bf16[4,4,4,32]{3,2,1,0}"
    window = "size=3x3 stride=2x2 pad=0_1x0_1"
    forward = convolution("BiasActivationForward", [x, kernel, "f32[32]{0}"], y, window=window)
    to_input = convolution("BackwardInput", [y, kernel], x, window=window)
    to_kernel = convolution("BackwardFilter", [x, y], kernel, window=window)
    moved = 2 * (4 * 8 * 8 * 16 + 32 * 3 * 3 * 16 + 4 * 4 * 4 * 32)
    assert (forward.flops, forward.bytes, forward.dtype) == (flops, moved + 4 * 32, "bf16")
    assert (to_input.flops, to_input.bytes) == (flops, moved)
    assert (to_kernel.flops, to_kernel.bytes) == (flops, moved)


def test_a_depthwise_convolution_and_the_holes_of_a_transposed_one():
    grouped = convolution(
        "Forward", ["f32[4,8,8,16]{3,2,1,0}", "f32[16,3,3,1]{3,2,1,0}"], "f32[4,8,8,16]{3,2,1,0}"
    )
    assert grouped.flops == 2 * (4 * 8 * 8 * 16) * (3 * 3)
    (step,) = read(
        """  %x.1 = f32[4,8,8,16]{3,2,1,0} parameter(0)
  %w.1 = f32[4,4,16,32]{3,2,1,0} parameter(1)
  ROOT %c.1 = f32[4,16,16,32]{3,2,1,0} convolution(%x.1, %w.1), \
window={size=4x4 pad=2_2x2_2 lhs_dilate=2x2}, dim_labels=b01f_01io->b01f"""
    )
    assert step.flops == 2 * (4 * 16 * 16 * 32) * (4 * 4 * 16) // 4


def test_products_inside_fusions_and_of_libraries():
    steps = read(
        """  %q.1 = bf16[4,64,32] parameter(0)
  %k.1 = bf16[4,64,32] parameter(1)
  %g.1 = f32[4,64,64] fusion(%q.1, %k.1), kind=kCustom, calls=%outer.1
  ROOT %l.1 = (f32[64,64], s8[4194304]) custom-call(%a.1, %b.1), \
custom_call_target="__cublas$gemm", \
backend_config={"gemm_backend_config":{"dot_dimension_numbers":\
{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  %a.1 = f32[64,32] parameter(2)
  %b.1 = f32[32,64] parameter(3)""",
        """%outer.1 (p0: bf16[4,64,32], p1: bf16[4,64,32]) -> f32[4,64,64] {
  %p0 = bf16[4,64,32] parameter(0)
  %p1 = bf16[4,64,32] parameter(1)
  ROOT %n.1 = f32[4,64,64] fusion(%p0, %p1), kind=kCustom, calls=%inner.1
}""",
        """%inner.1 (q0: bf16[4,64,32], q1: bf16[4,64,32]) -> f32[4,64,64] {
  %q0 = bf16[4,64,32] parameter(0)
  %q1 = bf16[4,64,32] parameter(1)
  ROOT %d.1 = f32[4,64,64] dot(%q0, %q1), \
lhs_batch_dims={0}, lhs_contracting_dims={2}, rhs_batch_dims={0}, rhs_contracting_dims={2}
}""",
    )
    assert [step.kind for step in steps] == [hlo.PRODUCT, hlo.PRODUCT]
    assert [step.flops for step in steps] == [2 * 4 * 64 * 64 * 32, 2 * 64 * 64 * 32]
    assert [step.dtype for step in steps] == ["bf16", "f32"]
    assert steps[0].bytes == 2 * 2 * (4 * 64 * 32) + 4 * (4 * 64 * 64)


LOOP = (
    """  %x.1 = f32[4,8,8,16] parameter(0)
  %w.1 = f32[3,3,16,32] parameter(1)
  %rows.1 = f32[50,4,16] parameter(2)
  %i.1 = s32[] constant(0)
  %tuple.1 = (s32[], f32[4,8,8,16], f32[3,3,16,32], f32[50,4,16]) tuple(%i.1, %x.1, %w.1, %rows.1)
  %loop.1 = (s32[], f32[4,8,8,16], f32[3,3,16,32], f32[50,4,16]) \
while(%tuple.1), condition=%cond.1, \
body=%body.1, backend_config={"known_trip_count":{"n":"50"}}
  ROOT %y.1 = f32[4,8,8,16] get-tuple-element(%loop.1), index=1""",
    """%add.1 (p0: f32[4,8,8,16], p1: f32[50,4,16], p2: s32[]) -> f32[4,8,8,16] {
  %p0 = f32[4,8,8,16] parameter(0)
  %p1 = f32[50,4,16] parameter(1)
  %p2 = s32[] parameter(2)
  %s.1 = f32[1,4,16] dynamic-slice(%p1, %p2, %p2, %p2), dynamic_slice_sizes={1,4,16}
  %b.1 = f32[4,8,8,16] broadcast(%s.1), dimensions={0,3}
  ROOT %a.1 = f32[4,8,8,16] add(%p0, %b.1)
}""",
    """%standardize.1 (p0: f32[3,3,16,32]) -> bf16[3,3,16,32] {
  %p0 = f32[3,3,16,32] parameter(0)
  ROOT %v.1 = bf16[3,3,16,32] convert(%p0)
}""",
    """%body.1 (t: (s32[], f32[4,8,8,16], f32[3,3,16,32], f32[50,4,16])) -> \
(s32[], f32[4,8,8,16], f32[3,3,16,32], f32[50,4,16]) {
  %t = (s32[], f32[4,8,8,16], f32[3,3,16,32], f32[50,4,16]) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %x = f32[4,8,8,16] get-tuple-element(%t), index=1
  %w = f32[3,3,16,32] get-tuple-element(%t), index=2
  %rows = f32[50,4,16] get-tuple-element(%t), index=3
  %cast = bf16[3,3,16,32] fusion(%w), kind=kLoop, \
calls=%standardize.1, metadata={op_name="jit(f)/while/body/conv_0/convert"}
  %new = f32[4,8,8,16] fusion(%x, %rows, %i), kind=kLoop, calls=%add.1
  ROOT %out = (s32[], f32[4,8,8,16], f32[3,3,16,32], f32[50,4,16]) tuple(%i, %new, %w, %rows)
}""",
)


def test_a_loop_repeats_its_body_and_reads_slices():
    cast, new = read(*LOOP)
    assert (cast.times, cast.loop, cast.kind) == (50, "loop.1", hlo.PARAMETERS)
    assert cast.bytes == (4 + 2) * 3 * 3 * 16 * 32
    # A step reads the precomputed row of one level of 50, and the number of the step.
    assert new.bytes == 4 * (2 * 4 * 8 * 8 * 16 + 4 * 16 + 1)
    assert new.kind == hlo.ACTIVATIONS


def test_loop_invariant_operations_are_found():
    rates = {"peak": roofline.Rates(1e9, 1e12, 1e11), "realistic": roofline.Rates(5e8, 1e12, 1e11)}
    found = roofline.longest_loop(read(*LOOP), rates, top=5)
    assert found["steps"] == 50
    assert found["classes"][hlo.PARAMETERS]["bytes"] == 6 * 4608
    assert found["of_parameters"] == {
        "operations": 1,
        "bytes": 6 * 4608,
        "sources": {"conv_*/convert": 6 * 4608},
    }
    whole = roofline.table(read(*LOOP), rates)
    assert whole[hlo.PARAMETERS]["operations"] == 50
    assert_allclose(whole[hlo.PARAMETERS]["peak"], 50 * 6 * 4608 / 1e9)
    assert_allclose(whole[hlo.PARAMETERS]["realistic"], 50 * 6 * 4608 / 5e8)


def test_a_part_is_written_in_place():
    (step,) = read(
        """  %film.1 = f32[50,4,16] parameter(0)
  %x.1 = f32[4,16] parameter(1)
  %i.1 = s32[] parameter(2)
  ROOT %f.1 = f32[50,4,16] fusion(%film.1, %x.1, %i.1), kind=kLoop, calls=%put.1""",
        """%put.1 (p0: f32[50,4,16], p1: f32[4,16], p2: s32[]) -> f32[50,4,16] {
  %p0 = f32[50,4,16] parameter(0)
  %p1 = f32[4,16] parameter(1)
  %p2 = s32[] parameter(2)
  %n.1 = f32[4,16] tanh(%p1)
  %r.1 = f32[1,4,16] bitcast(%n.1)
  ROOT %u.1 = f32[50,4,16] dynamic-update-slice(%p0, %r.1, %p2, %p2, %p2)
}""",
    )
    assert step.bytes == 4 * (4 * 16 + 4 * 16 + 1)


def test_of_a_condition_the_branch_that_moves_most_counts():
    branches = [
        f"""%{name}.1 (p: f32[4,16]) -> f32[4,16] {{
  %p = f32[4,16] parameter(0)
{steps}
}}"""
        for name, steps in {
            "one": "  ROOT %t.1 = f32[4,16] tanh(%p)",
            "two": "  %t.2 = f32[4,16] tanh(%p)\n  ROOT %t.3 = f32[4,16] exponential(%t.2)",
        }.items()
    ]
    found = read(
        """  %x.1 = f32[4,16] parameter(0)
  %w.1 = pred[] parameter(1)
  ROOT %c.1 = f32[4,16] conditional(%w.1, %x.1, %x.1), \
true_computation=%one.1, false_computation=%two.1""",
        *branches,
    )
    assert [step.name for step in found] == ["t.2", "t.3"]


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ("f32[3,3,16,32]", hlo.PARAMETERS),
        ("f32[32,3,3,16]", hlo.PARAMETERS),  # in cuDNN's order
        ("f32[144,32]", hlo.PARAMETERS),  # for a sum over all but the outputs
        ("f32[4,8,8,16]", hlo.ACTIVATIONS),
        ("f32[8,8,8,16]", hlo.ACTIVATIONS),  # with and without its condition
        ("f32[2,4,24,24]", hlo.ACTIVATIONS),  # the same; as many numbers as the kernel
        ("f32[4,8,8,18]", hlo.ACTIVATIONS),  # as many numbers as the kernel
        ("f32[256,16]", hlo.ACTIVATIONS),  # the places of all images in one row
        ("s32[]", hlo.PARAMETERS),
    ],
)
def test_classes_follow_from_the_largest_shape(shape, kind):
    for opcode, expected in (("tanh", kind), ("copy", hlo.COPY if "[]" not in shape else kind)):
        (step,) = read(
            f"  %x.1 = {shape} parameter(0)\n  ROOT %y.1 = {shape} {opcode}(%x.1)", rows=(4, 8)
        )
        assert step.kind == expected
        assert step.of_parameters == (kind == hlo.PARAMETERS)


def test_operations_bound_by_memory_come_first_to_last():
    rates = roofline.Rates(bytes_per_second=1e9, bfloat16=1e12, float32=1e11)

    def step(name, moved, flops=0, times=1, dtype="bf16"):
        kind = hlo.CONVOLUTION if flops else hlo.ACTIVATIONS
        return hlo.Operation(name, kind, moved, flops, dtype, times, "", False, "")

    steps = [
        step("computes", 10**6, flops=10**10),
        step("moves", 10**6),
        step("moves more", 10**6, times=3),
        step("both", 10**6, flops=10**8),
    ]
    found = roofline.bound_by_memory(steps, rates, top=2)
    assert [row["name"] for row in found] == ["moves more", "moves"]
    assert_allclose([row["seconds"] for row in found], [3e-3, 1e-3])
    assert_allclose(rates.seconds(steps[0]), 1e-2)
    assert_allclose(rates.seconds(step("", 1, flops=10**10, dtype="f32")), 1e-1)
    assert {row["name"] for row in roofline.bound_by_memory(steps, rates, top=9)} == {
        "moves more",
        "moves",
        "both",
    }


@pytest.mark.parametrize("name", topology.names())
def test_a_data_sheet_is_complete(name):
    device = topology.device(name)
    assert set(device.rates) == {"peak", "realistic"}
    for share in ("bytes_per_second", "bfloat16", "float32"):
        peak, realistic = (getattr(device.rates[kind], share) for kind in ("peak", "realistic"))
        assert 0.5 * peak < realistic < peak
    if device.platform == "cuda":
        target = device.compiler["target"]
        assert f"memory_bandwidth: {device.rates['peak'].bytes_per_second:.0f}\n" in target
        size = float(target.partition("device_memory_size: ")[2].split()[0])
        assert_allclose(size, device.memory, rtol=1e-3)


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr(topology, "has_compiler", lambda platform: False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    version = jax.__version__
    packages = f"jax-cuda13-plugin=={version} jax-cuda13-pjrt=={version}"
    with pytest.raises(ValueError, match=f"type: pip install .*build/compilers {packages}$"):
        topology.device("h100").compile_only()


def test_a_compiled_program_has_the_flops_of_the_model():
    """Products are counted in the optimized program and in the one before XLA."""
    config = tiny_transformer_config(batch_size=8, model__learn_variance=False, loss__kind="simple")
    program = programs.sampling(config, jax.devices()[:1])
    text = program.lowered.compile().as_text()
    steps = hlo.operations(text, program.rows, program.parameters)
    assert sum(step.flops * step.times for step in steps) == program.model_flops
    loop = roofline.longest_loop(steps, topology.device("h100").rates, top=1)
    assert loop["steps"] == config.sampling.steps


@pytest.mark.usefixtures("ordinary_promotion")
def test_a_step_of_several_devices_has_a_part_of_the_optimizer_on_each():
    """Eight hold an eighth of what is split; gradients are summed for that part."""
    taken = {}
    for shard_state in (False, True):
        config = tiny_transformer_config(batch_size=16, shard_state=shard_state)
        lowered = programs.training(config, jax.devices()).lowered
        state, batch = lowered.args_info[0]
        assert batch["label"].shape == (8, 2)
        arrays = (state.params, state.ema_params, state.opt_state)
        taken[shard_state] = [
            sum(math.prod(a.shape) for a in jax.tree.leaves(part)) for part in arrays
        ]
        assert ("reduce_scatter" in lowered.as_text()) == shard_state
    (params, average, optimizer), split = taken[False], taken[True]
    assert split[0] == params == average
    # Arrays of all devices: no more than seven numbers are added to each.
    assert average <= split[1] <= 1.1 * average
    assert optimizer <= split[2] <= 1.1 * optimizer


@pytest.mark.skipif(
    not (ROOT / topology.COMPILERS / "jax_plugins").exists(), reason="without CUDA's compiler"
)
def test_a_config_is_compiled_for_an_h100(tmp_path):
    command = [sys.executable, "-m", "benchmarks.compile", "--config", "configs/digits_dit.py"]
    command += ["--config.model.depth=1", "--config.model.width=64", "--batch=16,64"]
    command += ["--json", tmp_path / "figures.json"]

    def figures(*more):
        environment = {**os.environ, "XLA_FLAGS": ""}
        subprocess.run([*command, *more], cwd=ROOT, check=True, env=environment)
        return json.loads((tmp_path / "figures.json").read_text())

    split = figures("--devices=8", "--config.shard_state=True")["programs"][0]
    found = figures()
    few, many = found["programs"]
    assert split["arguments"] < 0.5 * few["arguments"]
    assert few["arguments"] < many["arguments"]
    assert few["peak"] < many["peak"]
    assert found["memory"]["largest_batch"] > 64
    for program in (few, many):
        products = sum(row["flops"] for row in program["classes"].values())
        assert 0.9 < products / program["model_flops"] < 1.3
