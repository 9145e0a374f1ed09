"""`python -m mpirun_infer`: the same program as the `mpirun-infer` command."""

from mpirun_infer.cli.main import main

if __name__ == "__main__":
    main()
