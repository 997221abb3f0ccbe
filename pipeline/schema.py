"""The configuration's types. Values live in `conf/`; Hydra merges the two and refuses unknown keys and wrong types.

A field marked `identity=False` says where or how fast something runs, never what comes out: it stays out of the
artifact's id. Everything else is part of it.
"""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from omegaconf import MISSING

NOT_IDENTITY = {"identity": False}
LATER = {"identity": "non_default"}  # part of an id only where it is set


@dataclass
class Runtime:
    """How a stage runs on this machine. Never changes the result beyond float noise, so never part of an id."""

    device: str = "auto"  # auto | cpu | cuda
    threads: int = 0  # CPU threads of a stage, shared by its processes; 0 = one for each core
    micro_batch: int = 0  # rows in one forward pass; 0 = the stage's own choice. The global batch stays the same
    save_steps: int = 0  # optimizer steps between checkpoints; 0 = a tenth of the run
    logging_steps: int = 5  # optimizer steps between two points of the loss curve
    stall_minutes: float = 30.0  # without a line, a file or processor time, a stage is stopped as hanging; 0 = never
    kernels: str = "plain"  # of a training step on a GPU, for passes over memory: plain | triton
    dequant_cache_gib: float = 0.0  # GiB for 4-bit weights kept dense, which is faster; of the method qlora
    num_processes: int = 1  # of a training stage, over all machines; each takes its part of every batch
    num_machines: int = 1  # that these processes run on, the same number on each
    strategy: str = "ddp"  # of the processes: ddp | fsdp2 | deepspeed; docs/several-processes.md


@dataclass
class StageConfig:
    """What every stage has. `inputs` and `data` name other stages and data sets of the same experiment."""

    kind: str = MISSING
    inputs: Dict[str, str] = field(default_factory=dict)  # role -> stage
    data: Dict[str, str] = field(default_factory=dict)  # role -> data set
    seed: int = 42
    runtime: Runtime = field(default_factory=Runtime, metadata=NOT_IDENTITY)


@dataclass
class ModelConfig:
    """Where the start model comes from (`base` stage)."""

    source: str = MISSING  # package:<distribution> | hub:<org/name> | toy | a local folder or .gguf file
    revision: Optional[str] = None  # commit of a hub model; resolved once and written to hub.lock when absent
    dtype: str = "float32"  # of the stored weights: float32 | bfloat16 | float16 | auto: the fastest of this machine
    chat_template: Optional[str] = None  # a .jinja file or a name in stages/models/templates
    trust_remote_code: bool = False  # run Python code that comes with the model; off unless a person sets it


@dataclass
class PeftConfig:
    """The adapter that a training stage adds on top of its input's chain."""

    method: str = "lora"  # lora, or qlora: the same adapter on a base of 4-bit weights
    r: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: Any = "all-linear"  # "all-linear" or a list of module name endings


@dataclass
class Suite:
    """One named measurement on held-out data."""

    measure: str = MISSING  # a measurement's name; docs/evaluation.md lists them
    data: str = ""  # data set; its held-out part is read. Empty where the measurement brings its items
    limit: int = 0  # items, evenly spread over the set; 0 = all
    params: Dict[str, Any] = field(default_factory=dict)  # checked by the measurement itself
    slices: List[str] = field(default_factory=list, metadata=LATER)  # columns of the items whose values are slices, too
    outside: List[str] = field(default_factory=list)  # slices unlike training, as seen_category=no; details: the gap
    version: int = 1  # raised by whoever changes what the suite means, so that results of before are not compared
    about: Optional[str] = field(default=None, metadata=NOT_IDENTITY)  # general | safety | domain: what gates go by
    judge: Optional[str] = field(default=None, metadata=LATER)  # stage of a reward model, or of a model, that judges
    against: Optional[str] = field(default=None, metadata=LATER)  # the other side: answers of a stage | base | input


@dataclass
class Evaluation:
    """What every model of the experiment is measured on."""

    suites: Dict[str, Suite] = field(default_factory=dict)
    retention: List[str] = field(default_factory=list)  # tasks of lm-evaluation-harness, each a suite about=general
    share: float = 1.0  # of every suite's limit, at most 1: how a budget measures less; no limit stays none
    models: Optional[List[str]] = None  # stages to evaluate; None = the start and every stage that makes a model
    engine: str = "own"  # own | vllm: what writes the models' answers, see docs/ppo.md#vllm
    runtime: Runtime = field(default_factory=Runtime, metadata=NOT_IDENTITY)


@dataclass
class Gate:
    """A rule on one suite's result. Judged anew in every run from stored per-item results; never part of an id."""

    stage: str = MISSING  # whose model is judged; every: each stage that trains one
    suite: str = MISSING  # about=safety: each suite that is about it
    rule: str = MISSING  # improves | not_worse (both `against` another model) | at_least | at_most (absolute)
    against: str = "base"  # a stage | input: its own policy | champion: the pin NAME-champion | prompting: every prompt
    margin: float = 0.0  # relative for perplexity (0.03 = 3 %), absolute otherwise
    value: Optional[float] = None  # the bound of at_least and at_most
    confidence: float = 0.95
    correction: str = "holm"  # holm: p of a stage's blocking not_worse gates is corrected for their number | none
    action: str = "block"  # block | warn


@dataclass
class Tracker:
    """Where the numbers of training go beside the manifest: one run of the tracker for a stage. Never part of an id."""

    kind: str = "wandb"  # wandb | tensorboard | mlflow | none
    mode: str = "offline"  # offline | online: files of the run, or a service named in the environment
    project: str = "journeyman"


@dataclass
class StoreConfig:
    """Where artifacts are. Never part of an id."""

    root: Optional[str] = None  # None = $JOURNEYMAN_STORE, else ./store
    remote: Optional[str] = None  # s3://BUCKET/PREFIX, gs://.. or file:///..: what is not here is taken from there
    push: bool = False  # after a run, what the remote does not have is sent to it


@dataclass
class Launcher:
    """Where the cells of `run -m` run. Never part of an id."""

    kind: str = "serial"  # serial: one after the other | local: in processes of this machine | slurm | ray
    workers: int = 2  # cells at a time; serial has one
    threads: int = 0  # CPU threads of a stage that leaves `runtime.threads` open; 0 = local: cores / workers, else all
    cluster: str = "slurm"  # slurm: where jobs go: slurm | local: processes of this machine, to try it out
    minutes: int = 1440  # slurm: after which a job is put into the queue again; it goes on from its last checkpoint
    cpus: int = 1  # slurm, ray: CPUs of a cell
    gpus: int = 0  # slurm, ray: GPUs of a cell
    memory_gib: float = 8.0  # slurm, ray: memory of a cell
    params: Dict[str, Any] = field(default_factory=dict)  # slurm: further ones of submitit, as slurm_partition
    address: Optional[str] = None  # ray: of a running cluster; None = one that is started on this machine


@dataclass
class Sweeper:
    """Which cells `run -m` has. Never part of an id."""

    kind: str = "grid"  # grid: every combination | optuna: each trial chosen from what came out of those before
    params: Dict[str, Any] = field(default_factory=dict)  # key -> values, as "0.1,0.2" or "interval(0.01, 0.5)"
    metric: Optional[str] = None  # optuna: NODE.METRIC of a manifest, as eval_dpo.preference or dpo.final_loss
    direction: Optional[str] = None  # optuna: maximize | minimize
    trials: int = 20  # optuna: how many in all, counted with those that are in the store already
    startup: int = 5  # optuna: trials at random before the first is chosen; also before the first is pruned
    seed: int = 0  # optuna: of the sampler
    prune: List[str] = field(default_factory=list)  # optuna: eval_STAGE.SUITE; worse than the median: go no further


@dataclass
class Identity:
    code: str = "record"  # record | strict: strict puts the stage's code digest and package versions into the id


@dataclass
class Feedback:
    """Rows that come in over time, and how many new ones are worth training on."""

    data: List[str] = field(default_factory=list)  # data sets of feedback: a change of these counts by its new rows
    rows: int = 100  # new ones since the last judgement from which training starts


@dataclass
class Drift:
    """Production against what the champion was trained on."""

    sample: Optional[str] = None  # data set of prompts or texts from production; None: drift starts nothing
    psi: float = 0.25  # population stability index of a feature from which training starts


@dataclass
class Retrain:
    """When `journeyman retrain` trains, whose model it promotes, and how much worse than the champion that may be."""

    stage: Optional[str] = None  # whose model is promoted; None = the last one that trains a model
    margin: float = 0.03  # of the gates against the champion on every suite that has none of its own
    on: List[str] = field(default_factory=lambda: ["base", "config", "data"])  # changes that start training
    feedback: Feedback = field(default_factory=Feedback)
    drift: Drift = field(default_factory=Drift)
    days: float = 0.0  # since the last judgement, after which any change starts training; 0 = never


@dataclass
class Experiment:
    """The whole configuration of one run."""

    name: str = MISSING
    description: str = ""
    align: Optional[str] = None  # how the model is aligned: dpo | kto | ppo | grpo | rloo, as the group `align` sets it
    budget: Optional[str] = None  # the budget this experiment is made for; None = gpu where there is one, else cpu
    model: ModelConfig = field(default_factory=ModelConfig)
    data: Dict[str, Any] = field(default_factory=dict)  # data set -> config of kind `prepare`
    stages: Dict[str, Any] = field(default_factory=dict)  # stage -> config of its kind
    eval: Evaluation = field(default_factory=Evaluation)
    gates: Dict[str, Gate] = field(default_factory=dict)
    contract: Dict[str, Any] = field(default_factory=dict)  # of the data of every stage; a stage's own comes on top
    tracker: Tracker = field(default_factory=Tracker)
    store: StoreConfig = field(default_factory=StoreConfig)
    launcher: Launcher = field(default_factory=Launcher)
    sweeper: Sweeper = field(default_factory=Sweeper)
    identity: Identity = field(default_factory=Identity)
    retrain: Retrain = field(default_factory=Retrain)
