"""uri -> pixels. Knows nothing of Ray, studies or encoders."""
