"""How fast pie-sync is, measured side by side with other clients. ``python -m benchmarks`` runs everything."""
