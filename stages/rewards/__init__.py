"""Rewards: what an answer earns, from reward models and from rules."""
