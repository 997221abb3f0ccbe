"""Learning from rewards: rollouts, advantages, updates, and the guards over them."""
