"""asv benchmarks of the cross-entropy losses."""

import numpy as np

from bench import sides_log_prob, sides_steps
from bench.sides_steps import CROSS_ENTROPY, ENTROPY
from bench.timed import _Elementwise, _Timed
from fastseqloss.steps.registry import CLASSES, SHARES


class SoftmaxCrossEntropy(_Timed):
    """Long and short rows in float32, at one and two threads."""

    params = (list(CROSS_ENTROPY), [1, 2])
    param_names = ("workload", "threads")

    def setup(self, workload, threads):
        self.calls = sides_steps.our_calls(ENTROPY, ENTROPY.batch(CROSS_ENTROPY[workload]), threads)


class SoftmaxCrossEntropyForms:
    """Half precision and in-place gradients compared with a plain copy, on rows of 32000 classes."""

    params = (
        "np.copyto float32",
        "grad_out float32",
        "grad_out bfloat16",
        "grad_out float16",
        "grad_out=logits float32",
    )
    param_names = ("form",)
    number = 1  # a call in place destroys its input, which `setup` makes

    def setup(self, form):
        calls, before = sides_steps.forms(CROSS_ENTROPY["words32000"])
        key = tuple(form.split())
        self.call = calls[key]
        before.get(key, self.call)()

    def time_form(self, form):
        self.call()


class SoftmaxCrossEntropyMemory:
    """Peak memory of the process, including input and gradient (twice the size of the logits)."""

    params = (["words32000", "letters32"],)
    param_names = ("workload",)

    def setup(self, workload):
        self.call = sides_steps.our_calls(ENTROPY, ENTROPY.batch(CROSS_ENTROPY[workload]), 1)["grad_out"]

    def peakmem_grad_out(self, workload):
        self.call()


class SoftmaxCrossEntropyAccuracy:
    """Largest errors of float32 against float64, which the tests compare with a reference."""

    params = (["words5000", "letters32", "bases5"], [1, 10])
    param_names = ("workload", "scale")

    def setup(self, workload, scale):
        batch = ENTROPY.batch((2000, CROSS_ENTROPY[workload][1])).scaled(scale)
        double = sides_steps.Batch(batch.scores.astype(np.float64), batch.targets)
        self.single, self.double = (sides_steps.our_result(ENTROPY, of) for of in (batch, double))

    def track_gradient_error(self, workload, scale):
        return float(np.abs(self.single[1] - self.double[1]).max())

    def track_loss_error(self, workload, scale):
        losses = self.double[0]
        return float((np.abs(self.single[0] - losses) / np.maximum(1.0, losses)).max())

    track_gradient_error.unit = track_loss_error.unit = "1"


class ShortSoftmaxCrossEntropy(_Timed):
    """One sequence of 20 steps, 10 classes: mostly the fixed cost of a call."""

    def setup(self):
        self.calls = sides_steps.our_calls(ENTROPY, ENTROPY.batch((1, 20, 10)), 1)


class SequenceLogProb(_Timed):
    """Sequences of words and of letters in float32, with slopes, at one and two threads."""

    params = ([*sides_log_prob.WORKLOADS, "pairs5000"], [1, 2])
    param_names = ("workload", "threads")

    def setup(self, workload, threads):
        self.calls = sides_log_prob.calls(workload, threads)


class BinaryCrossEntropy(_Elementwise):
    """Independent classes, at one and two threads."""

    params = (sides_steps.names(lambda row: row.targets == SHARES), [1, 2])


class LogLikelihood(_Elementwise):
    """Classes of given log-probabilities, at one and two threads."""

    params = (sides_steps.names(lambda row: row.targets == CLASSES and row.parameter is None), [1, 2])


class Focal(_Elementwise):
    """Focal losses of several classes, at one and two threads."""

    params = (sides_steps.names(lambda row: row.targets == CLASSES and row.function == "softmax_focal_loss"), [1, 2])
