"""The engine of Journeyman: composes, plans, caches, runs and explains a chain of stages. It never imports torch."""
