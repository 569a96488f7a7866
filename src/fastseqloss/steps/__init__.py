"""Losses at every step of padded sequences. A new one is described in `registry`."""
