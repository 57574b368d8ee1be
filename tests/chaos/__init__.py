"""A seeded storm of invocations, good and hostile, and a judge that believes none of their results."""
