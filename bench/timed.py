"""Base classes of the asv benchmarks of per-step losses. asv ignores names that begin with an underscore."""

from bench import sides_steps


class _Timed:
    """The three ways to call a loss."""

    def time_grad_out(self, *_):
        self.calls["grad_out"]()

    def time_fresh(self, *_):
        self.calls["fresh"]()

    def time_loss(self, *_):
        self.calls["loss"]()


class _Elementwise(_Timed):
    """Losses limited by memory bandwidth, by name, on arrays larger than the caches."""

    param_names = ("loss", "threads")

    def setup(self, name, threads):
        loss = sides_steps.LOSSES[name]
        self.calls = sides_steps.our_calls(loss, loss.batch(sides_steps.shape_of(name)), threads)
