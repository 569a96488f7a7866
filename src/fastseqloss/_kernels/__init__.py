from . import parallel as parallel  # imported before the kernels, because it loads the OpenMP runtime
