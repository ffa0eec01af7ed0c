"""Speed of the library beside plain implementations: ``python -m benchmarks.<name> [--quick]``."""
