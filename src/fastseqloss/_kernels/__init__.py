from . import parallel as parallel  # before the kernels: it loads the OpenMP runtime
