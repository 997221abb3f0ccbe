"""From YAML files and overrides to one typed experiment: composed by Hydra, checked, written out."""
