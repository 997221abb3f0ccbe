"""Reinforcement learning from a reward: PPO, and what watches over it."""
