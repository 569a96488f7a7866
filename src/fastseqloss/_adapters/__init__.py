"""Table of the losses that PyTorch and JAX get, and the parts that both adapters derive from it."""
