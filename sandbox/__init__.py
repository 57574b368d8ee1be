"""What runs inside every child interpreter: Python 2.7 and 3.6 or newer, standard library only.

The engine never imports this package, and this package never imports the engine: frames on pipes
(see ``wire``) are the whole contract between them.
"""
