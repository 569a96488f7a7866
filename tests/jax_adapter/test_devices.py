"""Programs that wait for nothing, and on several devices."""

import os
import subprocess
import sys

import numpy as np
import pytest

from jax_cases import PADDED, B, T, V, call_python, fsj, jax, scores
from thoroughness import thorough

pytestmark = pytest.mark.peers


def test_operands_are_arrays_of_numpy(monkeypatch):
    """Arrays of NumPy, not of JAX, whose values would have to be waited for; they are read-only."""
    seen = []
    real = fsj._ctc_loss

    def spy(*arrays, **options):
        seen.extend((type(array), array.flags.writeable) for array in arrays)
        return real(*arrays, **options)

    call_python(monkeypatch)
    monkeypatch.setattr(fsj, "_ctc_loss", spy)
    for call in (fsj.ctc_loss, jax.jit(fsj.ctc_loss)):
        call(scores(B, T, V), *PADDED).block_until_ready()
    with jax.disable_jit():
        fsj.ctc_loss(scores(B, T, V), *PADDED).block_until_ready()
    assert len(seen) == 3 * 4
    assert seen[::4] == [(np.ndarray, False)] * 3
    assert all(kind is np.ndarray for kind, _ in seen)


def run_child(code, **environment):
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, env=os.environ | environment)


# Arrays of some MB, in loops that do not wait: JAX then computes on the threads of its pool.
LOOPS = """
import os, threading
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CPUS])
import jax, jax.numpy as jnp, numpy as np
import fastseqloss as fsl, fastseqloss.jax as fsj

rng = np.random.default_rng(0)
start = rng.normal(size=(8, 200, 400)).astype(np.float32)
labels, tags = rng.integers(1, 400, (8, 30)), rng.integers(0, 400, (8, 200))
paddings, label_paddings = np.zeros((8, 200), np.float32), np.zeros((8, 30), np.float32)
wide = np.float32(0.01) * rng.normal(size=(400, 400)).astype(np.float32)
soft = jax.nn.softmax(jnp.asarray(start))

def looped(x):
    return jax.lax.scan(lambda total, _: (total + fsj.ctc_loss_with_lengths(x, labels), None), 0.0, None, 3)[0] / 3

losses = {
    "padded": lambda x: fsj.ctc_loss(x, paddings, labels, label_paddings).mean(),
    "looped": looped,
    "mapped": lambda x: jax.vmap(fsj.ctc_loss_with_lengths)(x, labels).mean(),
    "distributions": lambda x: fsj.softmax_cross_entropy(x @ wide, soft),
    "crf": lambda x: fsj.crf_loss(x[:, :, :50], tags % 50, wide[:50, :50], reduction="none").mean(),
}

def train(name):
    step = jax.value_and_grad(losses[name])
    for compiled in (jax.jit(step), step):
        x = jnp.asarray(start)
        for _ in range(4):
            loss, gradient = compiled(x)
            x = x - 0.1 * gradient
    results[name] = float(loss)

results = {}
"""


def test_one_cpu():
    run_child(LOOPS.replace("CPUS", "1") + """
for name in losses:
    train(name)
y = start.copy()
for _ in range(4):
    loss, gradient = fsl.ctc_loss(y, labels, return_grad=True)
    y -= np.float32(0.1) * gradient
for name in ("padded", "looped", "mapped"):
    assert abs(results[name] - loss) < 1e-4 * loss, (name, results, loss)
""")  # fmt: skip


def test_two_threads_on_two_cpus():
    run_child(LOOPS.replace("CPUS", "2") + """
threads = [threading.Thread(target=train, args=(name,)) for name in ("padded", "distributions")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(results) == 2 and all(np.isfinite(loss) for loss in results.values()), results
""")  # fmt: skip


# Removes functions that a future version of JAX may lack, and expects a warning.
WITHOUT = """
import warnings
import jax, jax.ffi, jax.numpy as jnp
from jax.interpreters import mlir
HANDLER, CALLBACK = {handler}, {callback}
def refuse(*arguments, **options):
    raise ValueError("an unknown version")
if not HANDLER:
    jax.ffi.register_ffi_target = refuse
if not CALLBACK and "emit_python_callback" in vars(mlir):
    del mlir.emit_python_callback
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastseqloss.jax as fsj
messages = [str(w.message) for w in caught if w.category is RuntimeWarning]
assert any("does not accept its handler" in message for message in messages) == (not HANDLER), messages
assert any("does not support JAX" in message for message in messages) == (not HANDLER and not CALLBACK), messages
x, labels = jnp.zeros((2, 3, 2)), jnp.array([[1], [1]])
value, gradient = jax.jit(jax.value_and_grad(fsj.ctc_loss_with_lengths))(x, labels, jnp.array([3, 1]))
assert gradient[1, 0, 1] == -0.25
assert jax.vmap(jax.grad(fsj.ctc_loss_with_lengths))(x, labels).shape == x.shape
try:
    fsj.ctc_loss_with_lengths(x, labels + 5).block_until_ready()
except (jax.errors.JaxRuntimeError, ValueError) as error:
    assert "labels[0, 0] is 6" in str(error), error
else:
    raise AssertionError
"""


@pytest.mark.parametrize(("handler", "callback"), [(True, False), (False, True), (False, False)])
def test_versions_of_jax_that_lack_an_interface(handler, callback):
    run_child(WITHOUT.format(handler=handler, callback=callback))


SHARDED = """
from functools import partial
import jax, jax.numpy as jnp, numpy as np
import fastseqloss.jax as fsj
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)
x, y = jnp.asarray(rng.normal(size=(8, 9, 5))), jnp.asarray(rng.integers(1, 5, (8, 3)))
n, tags = jnp.asarray(rng.integers(7, 10, 8)), jnp.asarray(rng.integers(0, 5, (8, 9)))
w, a = jnp.asarray(rng.normal(size=(5, 5))), jnp.asarray(rng.normal(size=(5, 5)))
paddings = lambda n: (jnp.arange(9) >= n[:, None]).astype(float)
losses = {
    "ctc": lambda w, a, x, y, n, tags: fsj.ctc_loss_with_lengths(x @ w, y, n, reduction="none"),
    "padded": lambda w, a, x, y, n, tags: fsj.ctc_loss(x @ w, paddings(n), y, jnp.zeros(y.shape)),
    "mapped": lambda w, a, x, y, n, tags: jax.vmap(fsj.ctc_loss_with_lengths)(x @ w, y, n),
    "classes": lambda w, a, x, y, n, tags: fsj.softmax_cross_entropy(x @ w, tags, n, reduction="sum"),
    "distributions": lambda w, a, x, y, n, tags: fsj.softmax_cross_entropy(
        x @ w, jax.nn.softmax(x @ a), n, reduction="per_sequence"
    ),
    "crf": lambda w, a, x, y, n, tags: fsj.crf_loss(x @ w, tags, a, n, start=a[0], reduction="sum"),
    "each": lambda w, a, x, y, n, tags: fsj.crf_loss(x @ w, tags, a, n, reduction="none"),
    "replicated": lambda w, a, x, y, n, tags: x.sum() * fsj.crf_loss(w[None], jnp.zeros((1, 5), int), a),
}
meshes = Mesh(np.array(jax.devices()), ("d",)), Mesh(np.array(jax.devices()).reshape(2, 2), ("d", "m"))
assert len(jax.devices()) == 4
data = x, y, n, tags

def close(got, want, name):
    for g, h in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, h, rtol=1e-10, atol=1e-10, err_msg=name)

for i, (name, loss) in enumerate(losses.items()):
    plain = lambda w, a, *data: loss(w, a, *data).sum()
    want = jax.value_and_grad(plain, (0, 1, 2))(w, a, *data)
    for mesh in meshes if ALL else [meshes[i % 2]]:
        rows = P(mesh.axis_names)
        mapped = partial(jax.shard_map, mesh=mesh, in_specs=(P(), P(), rows, rows, rows, rows))

        @partial(mapped, out_specs=P())
        def outside(w, a, *data):
            return jax.lax.psum(loss(w, a, *data).sum(), mesh.axis_names)

        @partial(mapped, out_specs=(P(), (P(), P(), rows)))
        def inside(w, a, x, *data):
            total = lambda w, a, x: jax.lax.psum(loss(w, a, x, *data).sum(), mesh.axis_names)
            return jax.value_and_grad(total, (0, 1, 2))(w, a, x)

        close(jax.jit(outside)(w, a, *data), want[0], name)
        close(jax.jit(jax.value_and_grad(outside, (0, 1, 2)))(w, a, *data), want, name)
        close(jax.jit(inside)(w, a, *data), want, name)
    parts = [array.reshape(4, 2, *array.shape[1:]) for array in data]
    each = jax.pmap(jax.value_and_grad(plain, (0, 1, 2)), in_axes=(None, None, 0, 0, 0, 0))(w, a, *parts)
    alone = [jax.value_and_grad(plain, (0, 1, 2))(w, a, *[part[d] for part in parts]) for d in range(4)]
    close(each, jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone), name)
    sharded = [jax.device_put(array, NamedSharding(meshes[0], P("d"))) for array in data]
    close(jax.jit(jax.value_and_grad(plain, (0, 1, 2)))(w, a, *sharded), want, name)
"""


@pytest.mark.skipif(not hasattr(jax, "shard_map"), reason="JAX has it from 0.6 on")
@pytest.mark.parametrize("every_mesh", [False, thorough(True)])
def test_sharded(every_mesh):
    """Inside `shard_map` with its checks, differentiated outside and inside of it; by `pmap`; for several devices."""
    run_child(SHARDED.replace("ALL", str(every_mesh)), XLA_FLAGS="--xla_force_host_platform_device_count=4")


# Scores of 192 MB, and the memory that a compiled gradient adds.
MEMORY = """
import resource, sys
import jax, jax.numpy as jnp, numpy as np
import fastseqloss.jax as fsj
labels, targets = np.tile(np.arange(1, 21), (64, 1)), np.zeros((64, 150), int)
step = jax.jit(jax.value_and_grad({loss}))
step(jnp.zeros((64, 150, 50)))
x = jnp.zeros((64, 150, 5000)).block_until_ready()
compiled = step.lower(x).compile()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak()
jax.block_until_ready(compiled(x))
assert peak() - before < 1.1 * x.nbytes, (peak() - before) / x.nbytes
"""


@pytest.mark.parametrize("loss", [
    thorough("lambda x: 0.5 * fsj.ctc_loss_with_lengths(x, labels)"),
    "lambda x: (jnp.arange(64) * fsj.ctc_loss_with_lengths(x, labels, reduction='none')).sum()",
    thorough("lambda x: fsj.softmax_cross_entropy(x, targets)"),
    "lambda x: 0.5 * fsj.softmax_cross_entropy(x, targets)",
])  # fmt: skip
def test_memory(loss):
    """The gradient alone: scores are not copied, and the gradient is scaled in place."""
    pytest.importorskip("resource", reason="Windows has no such module")
    run_child(MEMORY.format(loss=loss))


def test_imports():
    code = """
import fastseqloss, sys
assert "jax" not in sys.modules
from fastseqloss import jax as ours
import jax
assert jax is not ours and hasattr(jax, "Array") and ours is sys.modules["fastseqloss.jax"]
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_subnormal_numbers_are_kept():
    """XLA's threads flush them to zero; the losses are those of NumPy."""
    run_child("""
import jax, jax.numpy as jnp, numpy as np
import fastseqloss as fsl, fastseqloss.jax as fsj
x = np.random.default_rng(0).normal(size=(400, 50, 20)).astype(np.float32)
targets, weight = np.zeros((400, 50), int), np.full(400, 1e-41, np.float32)
options = {"reduction": "per_sequence"}
weighted = jax.jit(lambda x, weight: fsj.softmax_cross_entropy(x, targets, sample_weight=weight, **options))
expected = fsl.softmax_cross_entropy(x, targets, sample_weight=weight, **options).astype(np.float32)
assert 0 < expected.max() < np.finfo(np.float32).tiny
for threads in (1, 2):
    fsl.set_num_threads(threads)
    np.testing.assert_array_equal(np.asarray(weighted(x, weight)), expected)
""")


def test_programs_from_a_cache_on_disk(tmp_path):
    """A compiled program finds its loss in another process, where another one was traced first."""
    code = """
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_compilation_cache_dir", {folder!r})
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
import fastseqloss as fsl, fastseqloss.jax as fsj
x = np.random.default_rng(0).normal(size=(3, 8, 5)).astype(np.float32)
labels = np.array([[1, 2], [3, 4], [1, 1]])
for blank in {blanks}:
    loss, gradient = jax.jit(jax.value_and_grad(lambda x: fsj.ctc_loss_with_lengths(x, labels, blank=blank)))(x)
    expected = fsl.ctc_loss(x, labels, blank=blank, return_grad=True)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-6, atol=1e-7)
"""
    for blanks in ([0], [0, -5]):
        run_child(code.format(folder=str(tmp_path), blanks=blanks))
    assert any(tmp_path.iterdir())
    run_child(code.format(folder=str(tmp_path), blanks=[-5]))
