"""One engine, one thread, very many warm invocations: what is left of the engine after all of them."""
