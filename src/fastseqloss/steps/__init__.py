"""Losses at every step of padded sequences; the table of the losses is in `registry`."""
