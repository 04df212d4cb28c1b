"""What an embedding run is made of; `cbmir.embed` is the stage. Empty, so that a decode task imports no torch."""
