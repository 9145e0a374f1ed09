"""Pure decisions: events in, commands out. No clock, no I/O, no MPI."""
