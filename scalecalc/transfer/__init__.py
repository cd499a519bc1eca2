"""Does the learning rate transfer? Training runs across widths, rates and seeds, and what they say."""
