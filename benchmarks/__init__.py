"""How fast the engine is, beside references that do the least that could be called the same job.

One module a question; ``python -m benchmarks --help`` lists them, docs/performance.md explains them.
"""
