"""Before there are ranks: mpiexec's command line, supervision, relaunch, the dry run."""
