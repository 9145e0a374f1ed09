"""The loops of a rank: poll, ask the core, perform."""
