"""asv benchmarks of the linear-chain CRF."""

import numpy as np

import fastseqloss as fsl
from bench import sides_crf, sides_ctc_crf


class CRF:
    """The three workloads in float32, at one and two threads."""

    params = (list(sides_crf.WORKLOADS), [1, 2])
    param_names = ("workload", "threads")
    timeout = 120

    def setup(self, workload, threads):
        self.calls = sides_crf.our_calls(sides_crf.random_batch(sides_crf.WORKLOADS[workload]), threads)

    def time_gradient(self, workload, threads):
        self.calls["gradient"]()

    def time_loss(self, workload, threads):
        self.calls["loss"]()

    def time_decode(self, workload, threads):
        self.calls["decode"]()

    def time_n_best(self, workload, threads):
        self.calls["n best"]()


class StructuredHinge:
    """Loss and subgradient on the same workloads."""

    params = tuple(sides_crf.WORKLOADS)
    param_names = ("workload",)

    def setup(self, workload):
        self.batch = sides_crf.random_batch(sides_crf.WORKLOADS[workload])

    def time_gradient(self, workload):
        fsl.structured_hinge_loss(*self.batch.arguments, **self.batch.ends, return_grad=True, num_threads=1)


class CRFGeneralPath:
    """Potentials beyond the range of float64: every sequence takes the general path, in logarithms."""

    def setup(self):
        self.batch = sides_crf.random_batch(sides_crf.WORKLOADS["entities"])
        self.batch.transitions[:5, 5:] = self.batch.transitions[5:, :5] = -200.0
        self.batch.emissions[:, :25, :5] += 30.0
        self.batch.emissions[:, 25:, 5:] += 30.0

    def time_gradient(self):
        fsl.crf_loss(*self.batch.arguments, **self.batch.ends, return_grad=True, num_threads=1)


class CRFSteps:
    """Transitions of every step."""

    def setup(self):
        self.batch = sides_crf.random_batch(sides_crf.WORKLOADS["entities"])
        shape = self.batch.emissions.shape
        self.transitions = np.random.default_rng(1).normal(size=(*shape, shape[2])).astype(np.float32)

    def time_gradient(self):
        arguments = self.batch.emissions, self.batch.tags, self.transitions, self.batch.lengths
        fsl.crf_loss(*arguments, **self.batch.ends, return_grad=True, num_threads=1)

    def time_decode(self):
        fsl.crf_decode(self.batch.emissions, self.transitions, self.batch.lengths, **self.batch.ends, num_threads=1)


class CRFPaths:
    """Scores of given paths, and the spans of tags."""

    def setup(self):
        self.batch = sides_crf.random_batch(sides_crf.WORKLOADS["speech45"])
        self.tags = ["B-x", "I-x", "O", "B-y"] * 1000

    def time_score(self):
        fsl.crf_score(*self.batch.arguments, **self.batch.ends)

    def time_spans(self):
        fsl.spans_from_tags(self.tags)


class CTCCRF:
    """Chains of 256 and 1024 states of five arcs, at one and two threads."""

    params = (list(sides_ctc_crf.WORKLOADS), [1, 2])
    param_names = ("workload", "threads")

    def setup(self, workload, threads):
        self.calls = sides_ctc_crf.our_calls(sides_ctc_crf.random_batch(sides_ctc_crf.WORKLOADS[workload]), threads)

    def time_gradient(self, workload, threads):
        self.calls["gradient"]()

    def time_loss(self, workload, threads):
        self.calls["loss"]()

    def time_decode(self, workload, threads):
        self.calls["decode"]()


class CRFAccuracy:
    """Largest error of float32 gradients against float64."""

    params = tuple(sides_crf.WORKLOADS | sides_crf.LONG)
    param_names = ("workload",)

    def setup(self, workload):
        batch = sides_crf.random_batch((sides_crf.WORKLOADS | sides_crf.LONG)[workload])
        self.single = sides_crf.our_result(batch)
        wide = {name: x.astype(np.float64) if x.dtype == np.float32 else x for name, x in vars(batch).items()}
        self.double = sides_crf.our_result(sides_crf.Batch(**wide))

    def track_gradient_error(self, workload):
        return sides_crf.relative_error(self.single.emissions, self.double.emissions, "emissions")

    track_gradient_error.unit = "1"
