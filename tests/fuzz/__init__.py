"""What may be fed to the decoder, and what must hold whatever it is: for hypothesis and for atheris."""
