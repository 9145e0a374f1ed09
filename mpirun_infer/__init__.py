"""Score files and tables with an entry script over MPI; importing this touches nothing."""

__version__ = "0.1.0"
