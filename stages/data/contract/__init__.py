"""The data contract: what a stage may ask of the rows that it is given, looked at before anything is trained.

`examine.examine` looks; `config.ContractConfig` says how strictly; docs/contracts.md lists every finding.
"""
