"""asv benchmarks of the CTC loss."""

from functools import partial

import numpy as np

import fastseqloss as fsl
from bench import sides_ctc, sides_risk


class CTC:
    """The six workloads in float32, at one and two threads."""

    params = (list(sides_ctc.WORKLOADS), [1, 2])
    param_names = ("workload", "threads")
    timeout = 120

    def setup(self, workload, threads):
        batch = sides_ctc.random_batch(sides_ctc.WORKLOADS[workload])
        self.calls = sides_ctc.our_calls(batch, threads)

    def time_grad_out(self, workload, threads):
        self.calls["grad_out"]()

    def time_fresh(self, workload, threads):
        self.calls["fresh"]()

    def time_loss(self, workload, threads):
        self.calls["loss"]()


class CTCRisk:
    """Expected risk of eight candidates for each sequence of three workloads."""

    params = (list(sides_risk.WORKLOADS), [1, 2])
    param_names = ("workload", "threads")
    timeout = 120

    def setup(self, workload, threads):
        self.calls = sides_risk.our_calls(sides_risk.made(workload), threads)

    def time_grad_out(self, workload, threads):
        self.calls["grad_out"]()

    def time_loss(self, workload, threads):
        self.calls["loss"]()

    def peakmem_grad_out(self, workload, threads):
        self.calls["grad_out"]()


class CTCEntropy:
    """Entropy of the alignments with its gradient, in float32, at one and two threads."""

    params = (["warp28", "char32", "ocr6625"], [1, 2])
    param_names = ("workload", "threads")

    def setup(self, workload, threads):
        batch = sides_ctc.random_batch(sides_ctc.WORKLOADS[workload])
        given = batch.logits, batch.labels, batch.lengths, batch.label_lengths
        self.call = partial(fsl.ctc_entropy, *given, num_threads=threads)
        self.out = np.empty_like(batch.logits)

    def time_grad_out(self, workload, threads):
        self.call(grad_out=self.out)

    def time_entropy(self, workload, threads):
        self.call()


class CTCMemory:
    """Peak memory of the process, including input and gradient (twice the size of the logits)."""

    params = tuple(sides_ctc.WORKLOADS)
    param_names = ("workload",)

    def setup(self, workload):
        batch = sides_ctc.random_batch(sides_ctc.WORKLOADS[workload])
        self.call = sides_ctc.our_calls(batch, 1)["grad_out"]

    def peakmem_grad_out(self, workload):
        self.call()


class CTCAccuracy:
    """Largest errors of float32 against float64, which the tests compare with a reference."""

    params = (["warp28", "char32", "bpe1024", "long"], [1, 10])
    param_names = ("workload", "scale")

    def setup(self, workload, scale):
        batch = sides_ctc.random_batch(sides_ctc.WORKLOADS[workload]).scaled(scale)
        self.single = sides_ctc.our_ctc(batch, reduction="none", return_grad=True)
        self.double = sides_ctc.our_ctc(batch.astype(np.float64), reduction="none", return_grad=True)

    def track_gradient_error(self, workload, scale):
        return float(np.abs(self.single[1] - self.double[1]).max())

    def track_loss_error(self, workload, scale):
        losses = self.double[0]
        return float((np.abs(self.single[0] - losses) / np.maximum(1.0, losses)).max())

    track_gradient_error.unit = track_loss_error.unit = "1"


class ShortCall:
    """One sequence of 20 frames, 10 classes, 5 labels: mostly the fixed cost of a call."""

    params = ("grad_out", "fresh", "loss")
    param_names = ("mode",)

    def setup(self, mode):
        self.call = sides_ctc.our_calls(sides_ctc.random_batch((1, 20, 10, 5)), 1)[mode]

    def time_call(self, mode):
        self.call()


class Import:
    """Import in a fresh interpreter."""

    def timeraw_import(self):
        return "import fastseqloss"
