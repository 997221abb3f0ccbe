"""The training step: shared prompts computed once, no padding, only supervised rows scored, fused low-rank layers."""
