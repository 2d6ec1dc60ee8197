"""Measures how fast pie-sync is compared with other clients. ``python -m benchmarks`` runs everything."""
