"""Arrays, options, reductions and threads: the floor under every family of losses."""
