"""Losses of the scores of a linear layer, which are computed a chunk of rows at a time and never stored."""
