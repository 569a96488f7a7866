"""asv benchmarks of the losses of a linear layer."""

from bench import sides_linear


class Linear:
    """The workloads of the comparison, on one and two threads; those of BLAS are set by its environment."""

    params = (list(sides_linear.WORKLOADS), [1, 2])
    param_names = ("workload", "threads")
    timeout = 120

    def setup(self, workload, threads):
        self.calls = sides_linear.our_calls(sides_linear.batch_of(sides_linear.WORKLOADS[workload]), threads)

    def time_gradients(self, workload, threads):
        self.calls["gradients"]()

    def time_softcap(self, workload, threads):
        self.calls["softcap"]()

    def time_frozen(self, workload, threads):
        self.calls["frozen"]()

    def time_loss(self, workload, threads):
        self.calls["loss"]()

    def peakmem_gradients(self, workload, threads):
        self.calls["gradients"]()


class LinearSequences:
    """Log-probabilities of 8 sequences of words, their gradients, and a clipped policy loss with as much padding."""

    params = (["log_prob", "slopes", "policy"], [1, 2])
    param_names = ("call", "threads")
    timeout = 120

    def setup(self, call, threads):
        self.call = sides_linear.sequence_calls(threads)[call]

    def time_call(self, call, threads):
        self.call()
