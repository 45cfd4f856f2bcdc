"""Language models as policies: tokens from observations, a pretrained backbone, a networking head."""
