"""stack: everything on one machine, started in order of readiness and kept running."""
