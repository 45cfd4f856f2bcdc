"""Language models as policies: tokens from observations, a backbone, a networking head."""
