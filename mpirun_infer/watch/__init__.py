"""What people look at: progress line, status, summary; reads the run folder only."""
