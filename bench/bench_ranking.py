"""asv benchmarks of losses over lists."""

from bench import sides_ranking


class Ranking:
    """A tenth of a million scores in float32, in lists of two lengths, on one thread."""

    params = (list(sides_ranking.LOSSES), [100, 1000])
    param_names = ("loss", "N")

    def setup(self, loss, n):
        self.call = sides_ranking.ours(loss, *sides_ranking.batch(loss, n, 10**5 // n), 1)

    def time_grad_out(self, loss, n):
        self.call()
