"""asv benchmarks of the transducer losses."""

import numpy as np

import fastseqloss as fsl
from bench import sides_transducer


class RNNT:
    """The workloads in float32, at one and two threads."""

    params = (list(sides_transducer.WORKLOADS), [1, 2])
    param_names = ("workload", "threads")
    timeout = 240

    def setup(self, workload, threads):
        batch = sides_transducer.random_batch(sides_transducer.WORKLOADS[workload])
        self.calls = sides_transducer.our_calls(batch, threads)

    def time_grad_out(self, workload, threads):
        self.calls["grad_out"]()

    def time_loss(self, workload, threads):
        self.calls["loss"]()


class RNNTVariants:
    """The other models and topologies, and the pruned form, on one workload."""

    params = ("hat", "modified", "fastemit", "pruned", "posteriors", "align")
    param_names = ("variant",)

    def setup(self, variant):
        b, t, u, v = sides_transducer.WORKLOADS["words500"]
        batch = sides_transducer.random_batch((b, t, u, v))
        options = {
            "hat": {"blank_model": "hat"},
            "modified": {"topology": "modified"},
            "fastemit": {"fastemit": 0.01},
        }
        if variant == "pruned":
            ranges = np.minimum(np.arange(t) * u // (t - 5), u - 4) * np.ones((b, 1), int)
            batch = sides_transducer.Batch(np.ascontiguousarray(batch.logits[:, :, :5]), batch.labels)
            options["pruned"] = {"ranges": ranges}
        function = {"posteriors": fsl.rnnt_posteriors, "align": fsl.rnnt_align}.get(variant, fsl.rnnt_loss)
        gradient = {} if variant in ("posteriors", "align") else {"grad_out": np.zeros_like(batch.logits)}
        more = options.get(variant, {}) | gradient
        self.call = lambda: function(batch.logits, batch.labels, num_threads=1, **more)

    def time_variant(self, variant):
        self.call()


class TDT:
    """Durations 0 to 4."""

    params = ("short128", "words500", "char28")
    param_names = ("workload",)

    def setup(self, workload):
        self.batch = sides_transducer.random_batch(sides_transducer.WORKLOADS[workload])
        shape = self.batch.logits.shape[:3]
        self.durations = np.random.default_rng(1).standard_normal((*shape, 5), dtype=np.float32)

    def time_gradient(self, workload):
        logits, labels = self.batch.logits, self.batch.labels
        fsl.tdt_loss(logits, self.durations, labels, durations=range(5), return_grad=True, num_threads=1)


class Simple:
    """The additive joiner."""

    params = tuple(sides_transducer.SIMPLE)
    param_names = ("workload",)

    def setup(self, workload):
        self.batch = sides_transducer.random_simple(sides_transducer.SIMPLE[workload])

    def time_gradient(self, workload):
        batch = self.batch
        fsl.rnnt_simple_loss(batch.am, batch.lm, batch.labels, return_grad=True, num_threads=1)


class RNNTMemory:
    """Peak memory of the process, the gradient over the logits: input and working memory."""

    params = ("words1024", "words500", "char28")
    param_names = ("workload",)

    def setup(self, workload):
        self.batch = sides_transducer.random_batch(sides_transducer.WORKLOADS[workload])

    def peakmem_in_place(self, workload):
        sides_transducer.our_rnnt(self.batch, grad_out=self.batch.logits, num_threads=1)


class RNNTAccuracy:
    """Largest errors of float32 against float64, which the tests compare with a reference."""

    params = (["short128", "char28", "3000 frames"], [1, 10])
    param_names = ("workload", "scale")

    def setup(self, workload, scale):
        shapes = sides_transducer.WORKLOADS | sides_transducer.LONG
        batch = sides_transducer.random_batch(shapes[workload]).scaled(scale)
        wide = sides_transducer.Batch(batch.logits.astype(np.float64), batch.labels)
        self.single, self.double = (
            sides_transducer.our_rnnt(x, reduction="none", return_grad=True) for x in (batch, wide)
        )

    def track_gradient_error(self, workload, scale):
        return float(np.abs(self.single[1] - self.double[1]).max())

    def track_loss_error(self, workload, scale):
        return float(np.abs(self.single[0] / self.double[0] - 1).max())

    track_gradient_error.unit = track_loss_error.unit = "1"
