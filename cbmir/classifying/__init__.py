"""Parts of classification: neighbors that vote, a trained linear layer, and the figures of either."""
