"""Data that is used for what it is not: documents cut into "prompts", general text sold as a domain's."""
