"""Pixels -> vectors. Knows nothing of Ray or studies.

`resolve(name)` gives the EncoderSpec of a name, `build(spec)` the Encoder that runs it.
"""
